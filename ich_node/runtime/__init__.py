"""What every process needs: configuration, errors, logs, signals, supervision, TLS, audit trail."""
