/* A stand-in for Razorpay's Checkout: the same way in, and a dialog that pays, fails or pays late.
   Its origin is where this script was loaded from. Styles are set from here, so a strict policy allows it. */
(() => {
  "use strict";
  const origin = new URL(document.currentScript.src).origin;

  const make = (tag, text, styles) => {
    const element = document.createElement(tag);
    element.textContent = text;
    Object.assign(element.style, styles);
    return element;
  };

  class Razorpay {
    constructor(options) {
      this.options = options;
      this.listeners = {};
    }

    on(event, listener) {
      (this.listeners[event] ||= []).push(listener);
    }

    open() {
      const { options } = this;
      const dialog = make("dialog", "", {
        border: "0", borderRadius: "12px", padding: "24px", maxWidth: "22rem", width: "90vw",
        boxShadow: "0 12px 48px rgba(0,0,0,.35)", font: "16px/1.4 system-ui, sans-serif",
        color: "#14201c", background: "#ffffff",
      });
      dialog.setAttribute("aria-label", "Test checkout");
      dialog.append(
        make("h2", "Test checkout", { margin: "0 0 4px", fontSize: "1.2rem" }),
        make("p", `${options.name || "Payment"}: no money moves here.`, { margin: "0 0 16px" }),
      );
      const choices = [["captured", "Pay"], ["late", "Pay, confirmed later"], ["failed", "Fail"]];
      for (const [outcome, label] of choices) {
        const button = make("button", label, {
          display: "block", width: "100%", minHeight: "44px", margin: "8px 0", font: "inherit",
          border: "1px solid #0b5d4e", borderRadius: "8px", cursor: "pointer",
          color: outcome === "captured" ? "#ffffff" : "#0b5d4e",
          background: outcome === "captured" ? "#0b5d4e" : "#ffffff",
        });
        button.type = "button";
        button.dataset.outcome = outcome;
        button.addEventListener("click", () => this.pay(outcome, dialog));
        dialog.append(button);
      }
      dialog.addEventListener("cancel", () => {
        dialog.remove();
        options.modal?.ondismiss?.();
      });
      document.body.append(dialog);
      dialog.showModal();
      this.dialog = dialog;
    }

    close() {
      this.dialog?.remove();
    }

    async pay(outcome, dialog) {
      const { options } = this;
      for (const button of dialog.querySelectorAll("button")) button.disabled = true;
      const prefill = options.prefill || {};
      const answer = await fetch(`${origin}/checkout/${encodeURIComponent(options.order_id)}/standin`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
          outcome,
          ...(prefill.email ? { email: prefill.email } : {}),
          ...(prefill.contact ? { contact: prefill.contact } : {}),
        }),
      });
      const told = await answer.json();
      dialog.remove();
      if (told.error) {
        for (const listener of this.listeners["payment.failed"] || []) listener({ error: told.error });
      } else {
        options.handler?.(told);
      }
    }
  }

  window.Razorpay = Razorpay;
})();
