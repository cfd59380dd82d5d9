/* tasak: make one call on the warm daemon and copy its answer out, for the time that it takes to start a process.
 *
 * The same dumb pipe as tasak/client/fast.py, which is where the protocol is explained; the tests hold the two equal.
 * It knows no schema, no config and no list of our commands, and it never asks twice. Whatever is not a plain call with
 * a plain answer is left to tasak-py, the Python CLI beside this program; TASAK_REPLY says how far the call came:
 * a state, or the descriptor with the answer, unread, and a state ("3:sent").
 *
 * SIGINT keeps its default: dying closes the socket, and that cancels the call.
 */
#define _DARWIN_C_SOURCE /* SO_NOSIGPIPE, getpeereid */
#define _GNU_SOURCE      /* struct ucred */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#ifndef TASAK_VERSION
#error "the build names the version: -DTASAK_VERSION='\"…\"'"
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* older macOS has SO_NOSIGPIPE instead */
#endif

#define DIGITS "0123456789"
#define ALPHANUMERIC DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LENGTH(literal) (sizeof(literal) - 1)

enum {
    LONGEST_NAME = 64,
    LONGEST_PATH = 103,       /* the shortest sun_path there is (macOS), less its NUL */
    LONGEST_HEAD = 64 << 10,  /* a longer one is for the Python CLI to read */
    PIECE = 256 << 10,        /* a little more than what a Unix socket holds at once */
    GO_AHEAD_WITHIN = 2000,   /* ms: a daemon that is stopped or hung says nothing */
    STALLED_AFTER = 10000,    /* ms of silence: the Python CLI looks whether the daemon is still there */
    LOOK_AGAIN = 5,           /* ms: for a `100` that comes in crumbs */
};

/* Exit statuses, as in tasak/errors.py. */
enum { INTERNAL_ERROR = 1, TOOL_ERROR = 5, OUTCOME_UNKNOWN = 6 };

/* How far a call came, as `Handover` in tasak/client/fast.py tells it. */
enum state { IDLE, AWAY, BLOCKED, STRANGER, HUNG, GONE, UNSENT, SENT };
static const char *const STATES[] = {"idle", "away", "blocked", "stranger", "hung", "gone", "unsent", "sent"};

/* Options with a value that may stand before APP, and the members of the request's body that they become. */
static const struct { const char *name, *member; } OPTIONS[] = {
    {"--timeout", "timeout"}, {"--session", "session"}, {"--call-id", "call_id"},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof *OPTIONS };

struct given { const char *member, *value; };

struct call {
    const char *app, *tool;
    char **argv; /* up to a NULL */
    bool wants_json;
    struct given given[OPTION_COUNT]; /* in the order in which they first came */
    size_t given_count;
};

struct answer {
    size_t head;      /* bytes before the body */
    long long length; /* bytes of the body */
    int status;       /* to exit with */
};

extern char **environ;

/* ── what the words mean ───────────────────────────────────────────────────────────────────────────────────────── */

static bool is_digit(char c)
{
    return '0' <= c && c <= '9';
}

static bool is_name(const char *app)
{
    size_t size = strlen(app);

    return size <= LONGEST_NAME && strspn(app, ALPHANUMERIC) > 0 && strspn(app, ALPHANUMERIC "._-") == size;
}

/* Whether it is `30` or `0.5` or the like. */
static bool is_seconds(const char *text)
{
    size_t whole = strspn(text, DIGITS);
    size_t part = text[whole] == '.' ? strspn(text + whole + 1, DIGITS) : 0;

    return whole && !text[part ? whole + 1 + part : whole];
}

/* The member of the body for an option, of which `size` bytes are the name; NULL if it is none of ours. */
static const char *member_of(const char *name, size_t size)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strlen(OPTIONS[i].name) == size && !strncmp(OPTIONS[i].name, name, size))
            return OPTIONS[i].member;
    return NULL;
}

/* Of an option that is given twice, the last value counts. */
static void give(struct call *call, const char *member, const char *value)
{
    size_t i = 0;

    while (i < call->given_count && call->given[i].member != member)
        i++;
    call->given[i] = (struct given){member, value};
    if (i == call->given_count)
        call->given_count++;
}

/* Take the options off the words; NULL for one that is not for us. */
static char **take_options(char **word, struct call *call)
{
    for (; *word && **word == '-'; word++) {
        const char *equals = strchr(*word, '=');
        const char *member = member_of(*word, equals ? (size_t)(equals - *word) : strlen(*word));
        const char *value;

        if (!strcmp(*word, "--json")) {
            call->wants_json = true;
            continue;
        }
        if (!member || (!equals && !word[1]))
            return NULL;
        value = equals ? equals + 1 : *++word;
        if (!*value || *value == '-')
            return NULL;
        give(call, member, value);
    }
    return word;
}

/* `[--json] [--timeout S] [--session N] [--call-id ID] APP TOOL …`, or false. */
static bool plain_call(char **words, struct call *call)
{
    char **rest = take_options(words, call);

    if (!rest || !rest[0] || !is_name(rest[0]) || !rest[1] || !*rest[1] || *rest[1] == '-')
        return false;
    for (size_t i = 0; i < call->given_count; i++)
        if (!strcmp(call->given[i].member, "timeout") && !is_seconds(call->given[i].value))
            return false;
    call->app = rest[0];
    call->tool = rest[1];
    call->argv = rest + 2;
    return true;
}

static bool is_debugging(void)
{
    const char *value = getenv("TASAK_DEBUG");

    return value && *value && strcmp(value, "0") != 0;
}

/* ── the request ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Grows as it is written to. Once there is no memory, nothing more is written, and `has_failed` says so. */
struct text {
    char *at;
    size_t size, room;
    bool has_failed;
};

static void put_bytes(struct text *text, const char *bytes, size_t size)
{
    if (!text->has_failed && text->room - text->size < size) {
        size_t room = 2 * (text->size + size) + 8192;
        char *at = realloc(text->at, room);

        text->has_failed = !at;
        text->at = at ? at : text->at;
        text->room = at ? room : text->room;
    }
    if (text->has_failed)
        return;
    memcpy(text->at + text->size, bytes, size);
    text->size += size;
}

static void put(struct text *text, const char *string)
{
    put_bytes(text, string, strlen(string));
}

/* The size of the UTF-8 sequence at s, or 0. Never looks past the first byte that does not belong: a NUL, say. */
static size_t sequence_size(const char *s)
{
    unsigned char first = (unsigned char)s[0], second;
    size_t size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;

    for (size_t i = 1; i < size; i++)
        if (((unsigned char)s[i] & 0xC0) != 0x80)
            return 0;
    if (size < 3)
        return size;
    second = (unsigned char)s[1];
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) || /* too long; a surrogate */
        (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F))   /* too long; beyond U+10FFFF */
        return 0;
    return size;
}

/* A JSON string. A byte that is not UTF-8 becomes an escaped lone surrogate, as `os.fsdecode` makes one of it. */
static void put_quoted(struct text *text, const char *string, size_t size)
{
    put(text, "\"");
    for (const char *s = string; s < string + size;) {
        unsigned code = (unsigned char)*s;
        size_t step = sequence_size(s);

        if (step && code >= 0x20 && code != '"' && code != '\\') {
            put_bytes(text, s, step);
            s += step;
        } else {
            char escape[8];

            snprintf(escape, sizeof escape, code == '"' || code == '\\' ? "\\%c" : "\\u%04x",
                     step ? code : 0xDC00 + code);
            put(text, escape);
            s++;
        }
    }
    put(text, "\"");
}

/* JSON has no zeros before a number. */
static void put_seconds(struct text *text, const char *seconds)
{
    while (*seconds == '0' && is_digit(seconds[1]))
        seconds++;
    put(text, seconds);
}

static void put_options(struct text *text, const struct call *call)
{
    for (size_t i = 0; i < call->given_count; i++) {
        const struct given *given = &call->given[i];

        put(text, "\"");
        put(text, given->member);
        put(text, "\":");
        if (!strcmp(given->member, "timeout"))
            put_seconds(text, given->value);
        else
            put_quoted(text, given->value, strlen(given->value));
        put(text, ",");
    }
}

/* Whether another value of the same variable stands before it: the first counts, as for getenv. */
static bool is_second(char **variable, size_t name_size)
{
    for (char **other = environ; other < variable; other++)
        if (!strncmp(*other, *variable, name_size + 1))
            return true;
    return false;
}

static void put_environment(struct text *text)
{
    const char *comma = "";

    for (char **variable = environ; variable && *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        size_t name_size = equals ? (size_t)(equals - *variable) : 0;

        if (!equals || is_second(variable, name_size))
            continue;
        put(text, comma);
        put_quoted(text, *variable, name_size);
        put(text, ":");
        put_quoted(text, equals + 1, strlen(equals + 1));
        comma = ",";
    }
}

static void put_body(struct text *text, const struct call *call, const char *cwd)
{
    put(text, "{");
    put_options(text, call);
    put(text, "\"tool\":");
    put_quoted(text, call->tool, strlen(call->tool));
    put(text, ",\"argv\":[");
    for (char **word = call->argv; *word; word++) {
        put(text, word == call->argv ? "" : ",");
        put_quoted(text, *word, strlen(*word));
    }
    put(text, "],\"cwd\":");
    put_quoted(text, cwd, strlen(cwd));
    put(text, ",\"env\":{");
    put_environment(text);
    put(text, isatty(STDOUT_FILENO) ? "},\"tty\":true}" : "}}");
}

static void put_head(struct text *text, const struct call *call, size_t length)
{
    char digits[32];

    put(text, "POST /tools/call/");
    put(text, call->app);
    put(text, " HTTP/1.1\r\nHost: tasak\r\nContent-Type: application/json\r\nAccept: ");
    put(text, call->wants_json ? "application/json" : "text/plain");
    put(text, "\r\nTasak-Version: " TASAK_VERSION "\r\nExpect: 100-continue\r\nContent-Length: ");
    snprintf(digits, sizeof digits, "%zu\r\n\r\n", length);
    put(text, digits);
}

/* ── the connection ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Milliseconds of a clock that nobody sets. */
static long long now(void)
{
    struct timespec time = {0};

    clock_gettime(CLOCK_MONOTONIC, &time); /* fails for clocks that do not exist */
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* Whether the descriptor, which does not block, is ready before the deadline. */
static bool is_ready(int fd, short events, long long deadline)
{
    struct pollfd waited = {.fd = fd, .events = events};
    long long left;

    while ((left = deadline - now()) > 0) {
        int found = poll(&waited, 1, (int)left);

        if (found > 0)
            return true;
        if (found < 0 && errno != EINTR)
            return false;
    }
    return false;
}

/* As recv; ETIMEDOUT says that nothing came until the deadline. */
static ssize_t receive(int fd, char *buffer, size_t size, int flags, long long deadline)
{
    for (;;) {
        ssize_t count = recv(fd, buffer, size, flags);

        if (count >= 0 || (errno != EAGAIN && errno != EINTR))
            return count;
        if (!is_ready(fd, POLLIN, deadline)) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
}

/* Take off the connection what has been peeked at. */
static bool consume(int fd, char *scratch, size_t size)
{
    while (size) {
        ssize_t count = receive(fd, scratch, size, 0, now() + STALLED_AFTER);

        if (count <= 0)
            return false;
        size -= (size_t)count;
    }
    return true;
}

/* Send it all, or what goes: there may still be a refusal to read. */
static void push(int fd, const struct text *message, long long deadline)
{
    size_t sent = 0;

    while (sent < message->size) {
        ssize_t count = send(fd, message->at + sent, message->size - sent, MSG_NOSIGNAL);

        if (count >= 0)
            sent += (size_t)count;
        else if (errno != EINTR && (errno != EAGAIN || !is_ready(fd, POLLOUT, deadline)))
            return;
    }
}

/* Whether it is a folder of ours, to which nobody else can write, in a home that is not everybody's. */
static bool is_private(const char *folder, const char *home)
{
    struct stat found, above;

    if (lstat(folder, &found) || stat(home, &above))
        return true; /* connecting says it better */
    return S_ISDIR(found.st_mode) && !(found.st_mode & 022) && found.st_uid == getuid() &&
           (above.st_mode & 01002) != 0002;
}

static int peer_uid(int fd, uid_t *uid)
{
#ifdef __linux__
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
        return -1;
    *uid = peer.uid;
    return 0;
#else
    gid_t gid;

    return getpeereid(fd, uid, &gid);
#endif
}

/* Connect, and see who is there: SENT may go on. */
static enum state dial(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uid_t peer;
#ifdef SO_NOSIGPIPE
    int yes = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes))
        return AWAY;
#endif
    if (fcntl(fd, F_SETFL, O_NONBLOCK))
        return AWAY;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (!connect(fd, (const struct sockaddr *)&address, sizeof address) && !peer_uid(fd, &peer))
        return peer == geteuid() ? SENT : STRANGER;
    if (errno == EPERM || errno == EACCES)
        return BLOCKED;
    return errno == EAGAIN ? HUNG : AWAY; /* the queue is full: nobody has accepted for long */
}

/* The bytes up to the end of the first blank line, or 0. */
static size_t head_size(const char *seen, size_t size)
{
    for (size_t i = 4; i <= size; i++)
        if (!memcmp(seen + i - 4, "\r\n\r\n", 4))
            return i;
    return 0;
}

/* Take `100 Continue` off the connection, and not a byte of what follows it. SENT: now the body may go. */
static enum state await_go_ahead(int fd, long long deadline)
{
    static const char GO_AHEAD[] = "HTTP/1.1 100 ";
    static char seen[2 * LONGEST_HEAD]; /* static, as other big ones: a stack may be probed page by page */
    size_t taken = 0;

    while (taken < LONGEST_HEAD && now() < deadline) {
        ssize_t count = receive(fd, seen + taken, LONGEST_HEAD, MSG_PEEK, deadline);
        size_t size = count < 0 ? 0 : (size_t)count, begun = size < LENGTH(GO_AHEAD) ? size : LENGTH(GO_AHEAD), end;

        if (!size)
            return count < 0 && errno == ETIMEDOUT ? HUNG : GONE;
        if (!taken && memcmp(seen, GO_AHEAD, begun) != 0)
            return UNSENT;
        if (!taken && begun < LENGTH(GO_AHEAD)) {
            poll(NULL, 0, LOOK_AGAIN);
            continue;
        }
        end = head_size(seen, taken + size);
        if (!consume(fd, seen + taken, (end ? end : taken + size) - taken))
            return GONE;
        if (end)
            return SENT;
        taken += size;
    }
    return HUNG;
}

/* ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The number between blanks, of so many digits at most; else -1. */
static long long number(const char *text, const char *end, ptrdiff_t digits)
{
    long long value = 0;

    while (text < end && (*text == ' ' || *text == '\t'))
        text++;
    while (text < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (text == end || end - text > digits)
        return -1;
    for (; text < end; text++) {
        if (!is_digit(*text))
            return -1;
        value = 10 * value + (*text - '0');
    }
    return value;
}

/* Where the line that follows begins. Each one in a head ends in CR and LF. */
static const char *next_line(const char *line)
{
    while (memcmp(line, "\r\n", 2) != 0)
        line++;
    return line + 2;
}

/* The size of the name that the line begins with; 0 if there is none, or an odd one. */
static size_t field_name(const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    bool is_named = false;

    for (const char *c = line; colon && c < colon; c++) {
        if (*c != '-' && !(*c && strchr(ALPHANUMERIC, *c)))
            return 0;
        is_named = is_named || *c != '-';
    }
    return is_named ? (size_t)(colon - line) : 0;
}

static bool is_field(const char *line, size_t name, const char *wanted)
{
    return strlen(wanted) == name && !strncasecmp(line, wanted, name);
}

/* Whether a line before it, from `first` on, has the same name. */
static bool is_repeated(const char *first, const char *line, size_t name)
{
    for (const char *other = first; other < line; other = next_line(other))
        if (!strncasecmp(other, line, name) && other[name] == ':')
            return true;
    return false;
}

/* Whether the answer, or the beginning of it, is to be copied as it is. */
static bool plain_answer(const char *seen, size_t size, struct answer *answer)
{
    static const char OK[] = "HTTP/1.1 200 ";
    const char *first, *last;
    long long length = -1, status = -1;

    answer->head = head_size(seen, size);
    if (answer->head < LENGTH(OK) || memcmp(seen, OK, LENGTH(OK)) != 0)
        return false;
    first = next_line(seen);
    last = seen + answer->head - 2; /* the blank line */
    for (const char *line = first, *next; line < last; line = next) {
        size_t name;

        next = next_line(line);
        name = field_name(line, next - 2);
        if (!name || is_repeated(first, line, name) || is_field(line, name, "Transfer-Encoding") ||
            is_field(line, name, "Tasak-Notice"))
            return false;
        if (is_field(line, name, "Content-Length"))
            length = number(line + name + 1, next - 2, 15);
        if (is_field(line, name, "Tasak-Exit"))
            status = number(line + name + 1, next - 2, 3);
    }
    answer->length = length;
    answer->status = (int)status;
    return length >= 0 && status >= 0 && status < 256;
}

/* Tell the user; the exit status is given back. */
static int complain(int status, const char *message, const char *more)
{
    char line[2 * PATH_MAX];
    int size = snprintf(line, sizeof line, "tasak: %s%s\n", message, more);

    if (size > 0 && write(STDERR_FILENO, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1) < 0)
        return status; /* there is nobody to tell */
    return status;
}

static bool write_all(int output, const char *piece, size_t size)
{
    while (size) {
        ssize_t count = write(output, piece, size);

        if (count >= 0) {
            piece += count;
            size -= (size_t)count;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = output, .events = POLLOUT}, 1, -1); /* the write tells what is wrong */
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Copy so many bytes to the descriptor `output`. Returns the exit status of a failure, 0 for none. */
static int copy(int fd, long long left, int output)
{
    static char piece[PIECE];

    while (left > 0) {
        size_t wanted = left < PIECE ? (size_t)left : PIECE;
        ssize_t count = receive(fd, piece, wanted, 0, now() + STALLED_AFTER);

        if (count <= 0)
            return complain(OUTCOME_UNKNOWN, "the daemon broke off its answer; the call may have run", "");
        if (!write_all(output, piece, (size_t)count))
            return complain(INTERNAL_ERROR, "cannot write the result: ", strerror(errno));
        left -= count;
    }
    return 0;
}

/* Copy a plain answer out: the exit status. -1, with the answer unread, where it is not plain. */
static int relay(int fd, bool wants_json)
{
    static char seen[LONGEST_HEAD];
    struct answer answer;
    ssize_t count = receive(fd, seen, sizeof seen, MSG_PEEK, now() + STALLED_AFTER);
    int failure;

    if (count <= 0 || !plain_answer(seen, (size_t)count, &answer) || !consume(fd, seen, answer.head))
        return -1;
    if (signal(SIGPIPE, SIG_DFL) == SIG_ERR)
        return complain(INTERNAL_ERROR, "cannot write the result: ", strerror(errno));
    failure = copy(fd, answer.length, wants_json || answer.status == 0 || answer.status == TOOL_ERROR ? 1 : 2);
    return failure ? failure : answer.status;
}

/* ── the whole ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Send the call where the daemon says that it may come, and copy the answer: then `status` is no longer -1. */
static enum state converse(int fd, const struct call *call, const char *cwd, long long deadline, int *status)
{
    struct text head = {0}, body = {0};
    enum state state = IDLE;

    put_body(&body, call, cwd);
    put_head(&head, call, body.size);
    if (!head.has_failed && !body.has_failed) {
        push(fd, &head, deadline);
        state = await_go_ahead(fd, deadline);
    }
    if (state == SENT) {
        push(fd, &body, now() + STALLED_AFTER);
        *status = relay(fd, call->wants_json);
    }
    free(head.at);
    free(body.at);
    return state;
}

/* Make the call. `fd` is set where there is an answer to read, and `status` where that has been done. */
static enum state attempt(const struct call *call, int *fd, int *status)
{
    static char cwd[16 * PATH_MAX];
    char path[LONGEST_PATH + 1], folder[LONGEST_PATH + 1];
    const char *home = getenv("HOME");
    long long deadline;
    enum state state;

    if (!getcwd(cwd, sizeof cwd)) /* it was removed under us */
        return IDLE;
    if (!home || *home != '/' || snprintf(path, sizeof path, "%s/.tasak/daemon.sock", home) > LONGEST_PATH ||
        snprintf(folder, sizeof folder, "%s/.tasak", home) > LONGEST_PATH)
        return AWAY;
    if (!is_private(folder, home))
        return IDLE;
    *fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (*fd < 0)
        return errno == EPERM || errno == EACCES ? BLOCKED : AWAY;
    deadline = now() + GO_AHEAD_WITHIN;
    state = *fd > STDERR_FILENO ? dial(*fd, path) : IDLE; /* one is closed, and this would be taken for it */
    if (state == SENT)
        state = converse(*fd, call, cwd, deadline, status);
    if ((state == UNSENT || state == SENT) && !fcntl(*fd, F_SETFL, 0)) /* blocks again */
        return state;
    close(*fd);
    *fd = -1;
    return state;
}

/* The absolute path of this program; empty if the system does not tell. */
static void find_self(char path[PATH_MAX])
{
#ifdef __APPLE__
    char found[PATH_MAX];
    uint32_t size = sizeof found;

    if (_NSGetExecutablePath(found, &size) || !realpath(found, path))
        path[0] = '\0';
#else
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX);

    path[0 < size && size < PATH_MAX ? size : 0] = '\0';
#endif
}

/* Become tasak-py: the one beside this program, or where nobody tells which that is, the one in PATH. */
static int hand_over(char **argv, enum state state, int fd)
{
    char reply[32], path[PATH_MAX + LENGTH("tasak-py")], *slash;

    if (fd < 0)
        snprintf(reply, sizeof reply, "%s", STATES[state]);
    else
        snprintf(reply, sizeof reply, "%d:%s", fd, STATES[state]);
    find_self(path);
    slash = strrchr(path, '/');
    memcpy(slash ? slash + 1 : path, "tasak-py", sizeof "tasak-py");
    if (!setenv("TASAK_REPLY", reply, 1))
        execvp(path, argv);
    complain(INTERNAL_ERROR, "cannot run tasak-py: ", strerror(errno));
    if (state == SENT)
        return complain(OUTCOME_UNKNOWN, "the call may have run; install tasak again", "");
    return complain(INTERNAL_ERROR, "the call has not run; install tasak again", "");
}

int main(int argc, char **argv)
{
    struct call call = {0};
    enum state state = IDLE;
    int fd = -1, status = -1;

    if (argc > 0 && plain_call(argv + 1, &call) && !is_debugging())
        state = attempt(&call, &fd, &status);
    return status < 0 ? hand_over(argv, state, fd) : status;
}
