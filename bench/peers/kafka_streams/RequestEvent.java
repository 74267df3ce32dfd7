package peer;

/** One finished request as a gateway publishes it. Objects are filled again and again by {@link EventReader}. */
final class RequestEvent {
    static final int FAILED_FROM = 400;

    String source;
    String id;
    String org;
    String time;
    /** Digits, or null where the source does not number its events. */
    String sequence;
    String keyId;
    String tier;
    boolean byok;
    String model;
    /** Null where a failed request reached no provider. */
    String provider;
    int status;
    String errorCode;
    int latencyMs;
    /** -1 where absent. */
    int ttftMs;
    boolean stream;
    boolean hasUsage;
    int promptTokens;
    int cachedTokens;
    int completionTokens;
    int reasoningTokens;

    boolean trial() {
        return tier.equals("trial");
    }

    /** A trial key, the org's own provider key and a failed request cost nothing. */
    boolean free() {
        return byok || status >= FAILED_FROM || trial();
    }
}
