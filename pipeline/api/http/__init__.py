"""What every route needs of HTTP: errors, answers, parameters, sessions, headers, limits, metrics."""
