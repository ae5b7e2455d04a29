"""How the daemon is watched: structured logs and systemd."""
