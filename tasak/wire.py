"""What passes between client and daemon: names and numbers alone, so that the hot path can afford to import it."""

# Grows when an older client or daemon would misread what the other sends.
WIRE_VERSION = 1

# Who waits for this: a caller whose daemon is stopped or hung; the call then goes direct (nothing was sent).
CONTINUE_TIMEOUT = 2.0

# In seconds: no call is asked to wait for longer than a day.
LONGEST_TIMEOUT = 86_400

# Fifty first callers at once, and more while they wait.
BACKLOG = 1024

# argv may carry a file's content.
MAX_BODY = 64 << 20

# A starter's `--log-level` reaches the daemon as its environment has it anyway.
LOG_LEVEL_VARIABLE = "TASAK_DAEMON_LOG_LEVEL"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

# In the environment of a daemon's programs: whose they are. A daemon that one of them starts is without it.
TREE_VARIABLE = "TASAK_TREE"

# In seconds: what running calls get when the daemon stops and nobody says otherwise, and the most that one may say.
DRAIN = 5.0
LONGEST_DRAIN = 600.0

SOCKET_NAME = "daemon.sock"
CALL_PATH = "/tools/call/"

VERSION_HEADER = "Tasak-Version"
APP_HEADER = "Tasak-App"
EXIT_HEADER = "Tasak-Exit"
SESSION_HEADER = "Tasak-Session"
NOTICE_HEADER = "Tasak-Notice"

PLAIN = "text/plain"
JSON = "application/json"
NDJSON = "application/x-ndjson"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

# Our own first words, used today or kept for later: as an app's name only `tasak -- NAME` reaches them.
RESERVED = frozenset({
    "auth", "batch", "call", "completion", "config", "connections", "daemon", "dashboard", "doctor", "help", "list",
    "lock", "mcp", "metrics", "outcome", "ping", "plugins", "prompts", "read", "resources", "search", "skill", "trust",
    "version",
})  # fmt: skip
