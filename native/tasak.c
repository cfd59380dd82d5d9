/* tasak: make one call on the warm daemon and copy its answer out, for the time that it takes to start a process.
 *
 * The same dumb pipe as tasak/client/fast.py, which is where the protocol is explained; the tests hold the two equal.
 * It knows no schema, no config and no list of our commands, and it never asks twice. Whatever is not a plain call with
 * a plain answer is left to tasak-py, the Python CLI beside this program; TASAK_REPLY says how far the call came:
 * a state, or the descriptor with the answer, unread, and a state ("3:sent").
 *
 * SIGINT keeps its default: dying closes the socket, and that cancels the call. The build names TASAK_VERSION.
 */
#define _DARWIN_C_SOURCE /* getpeereid */
#define _GNU_SOURCE      /* struct ucred */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#define DIGITS "0123456789"
#define ALPHANUMERIC DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define GO_AHEAD "HTTP/1.1 100 "
#define OK "HTTP/1.1 200 "
#define LINE_END "\r\n"
#define BLANK_LINE LINE_END LINE_END
#define SUCCESSOR "tasak-py"

enum {
    LONGEST_NAME = 64,
    LONGEST_PATH = 103,      /* the shortest sun_path there is (macOS), less its NUL */
    LONGEST_HEAD = 64 << 10, /* a longer one is for the Python CLI to read */
    PIECE = 256 << 10,       /* a little more than what a Unix socket holds at once */
    GO_AHEAD_WITHIN = 2000,  /* ms: a daemon that is stopped or hung says nothing */
    STALLED_AFTER = 10000,   /* ms of silence: the Python CLI looks whether the daemon is still there */
    LOOK_AGAIN = 5,          /* ms: for a `100` that comes in crumbs */
};
enum { INTERNAL_ERROR = 1, TOOL_ERROR = 5, OUTCOME_UNKNOWN = 6 }; /* exit statuses, as in tasak/errors.py */

/* How far a call came, as `Handover` in tasak/client/fast.py tells it. */
static const char IDLE[] = "idle", AWAY[] = "away", BLOCKED[] = "blocked", STRANGER[] = "stranger", HUNG[] = "hung",
                  GONE[] = "gone", UNSENT[] = "unsent", SENT[] = "sent";

/* Options with a value that may stand before APP, and how the request's body has them. */
static const struct { const char *name, *member; } OPTIONS[] = {
    {"--timeout", ",\"timeout\":"}, {"--session", ",\"session\":"}, {"--call-id", ",\"call_id\":"},
};
enum { TIMEOUT = 0, OPTION_COUNT = sizeof OPTIONS / sizeof *OPTIONS };

struct call {
    const char *app, *tool, *values[OPTION_COUNT];
    char **argv; /* up to a NULL */
    bool wants_json;
};

struct answer {
    size_t head;      /* bytes before the body */
    long long length; /* bytes of the body */
    int status;       /* to exit with */
};

extern char **environ;

/* What was received last. Static, because a stack may be probed page by page. */
static char received[PIECE + 1];

/* ── the words: what is not surely a plain call is the Python CLI's ──────────────────────────────────────────────── */

static bool is_name(const char *app)
{
    return strlen(app) <= LONGEST_NAME && strspn(app, ALPHANUMERIC) > 0 && !app[strspn(app, ALPHANUMERIC "._-")];
}

/* `30` or `0.5` or the like as JSON has it, which knows no zeros before a number; else NULL. */
static const char *seconds(const char *text)
{
    size_t whole = strspn(text, DIGITS);
    size_t part = text[whole] == '.' ? 1 + strspn(text + whole + 1, DIGITS) : 0;
    if (!whole || part == 1 || text[whole + part])
        return NULL;
    while (*text == '0' && strspn(text, DIGITS) > 1)
        text++;
    return text;
}

/* `[--json] [--timeout S] [--session N] [--call-id ID] APP TOOL …`. Of an option that comes twice, the last counts. */
static bool is_plain_call(char **word, struct call *call)
{
    for (; *word && **word == '-'; word++) {
        if (!strcmp(*word, "--json")) {
            call->wants_json = true;
            continue;
        }
        size_t size = strcspn(*word, "="), i = 0;
        while (i < OPTION_COUNT && (strncmp(OPTIONS[i].name, *word, size) != 0 || OPTIONS[i].name[size]))
            i++;
        const char *value = (*word)[size] ? *word + size + 1 : word[1] ? *++word : "";
        if (i == OPTION_COUNT || !*value || *value == '-')
            return false;
        call->values[i] = i == TIMEOUT ? seconds(value) : value;
        if (!call->values[i])
            return false;
    }
    if (!word[0] || !is_name(word[0]) || !word[1] || !*word[1] || *word[1] == '-')
        return false;
    call->app = word[0];
    call->tool = word[1];
    call->argv = word + 2;
    return true;
}

/* ── the body: byte for byte that of client/fast.py ──────────────────────────────────────────────────────────────── */

/* The size of the UTF-8 sequence at s, or 0. Never looks past the first byte that does not belong: a NUL, say. */
static size_t sequence_size(const char *s)
{
    unsigned first = (unsigned char)s[0], two = first << 8 | (unsigned char)s[1];
    size_t size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char)s[i] & 0xC0) != 0x80)
            return 0;
    if ((0xE000 <= two && two < 0xE0A0) || (0xEDA0 <= two && two < 0xEE00) || /* too long; a surrogate */
        (0xF000 <= two && two < 0xF090) || 0xF490 <= two)                     /* too long; beyond U+10FFFF */
        return 0;
    return size;
}

/* A JSON string, of the text up to a NUL or `end`. A byte that is not UTF-8 becomes an escaped lone surrogate, as
 * `os.fsdecode` makes one of it. */
static void put_quoted(FILE *body, const char *before, const char *text, char end)
{
    fputs(before, body);
    putc_unlocked('"', body);
    while (*text && *text != end) {
        unsigned code = (unsigned char)*text;
        size_t size = sequence_size(text);
        if (code == '"' || code == '\\')
            fprintf(body, "\\%c", code);
        else if (!size || code < 0x20)
            fprintf(body, "\\u%04x", size ? code : 0xDC00 + code);
        else
            for (size_t i = 0; i < size; i++)
                putc_unlocked(text[i], body);
        text += size ? size : 1;
    }
    putc_unlocked('"', body);
}

/* Of a variable that is there twice, the first value counts, as for getenv. */
static void put_environment(FILE *body)
{
    const char *comma = "";
    for (char **variable = environ, **first; variable && *variable; variable++) {
        size_t size = strcspn(*variable, "=");
        for (first = environ; strncmp(*first, *variable, size + 1) != 0;)
            first++;
        if (first == variable && (*variable)[size]) {
            put_quoted(body, comma, *variable, '=');
            put_quoted(body, ":", *variable + size + 1, '\0');
            comma = ",";
        }
    }
}

static void put_body(FILE *body, const struct call *call, const char *cwd)
{
    put_quoted(body, "{\"tool\":", call->tool, '\0');
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (call->values[i] && i == TIMEOUT)
            fprintf(body, "%s%s", OPTIONS[i].member, call->values[i]);
        else if (call->values[i])
            put_quoted(body, OPTIONS[i].member, call->values[i], '\0');
    fputs(",\"argv\":[", body);
    for (char **word = call->argv; *word; word++)
        put_quoted(body, word == call->argv ? "" : ",", *word, '\0');
    put_quoted(body, "],\"cwd\":", cwd, '\0');
    fputs(",\"env\":{", body);
    put_environment(body);
    fputs(isatty(STDOUT_FILENO) ? "},\"tty\":true}" : "}}", body);
}

/* ── the connection: no wait for the daemon is without an end ────────────────────────────────────────────────────── */

/* Milliseconds of a clock that nobody sets. */
static long long now(void)
{
    struct timespec time = {0};
    clock_gettime(CLOCK_MONOTONIC, &time); /* fails for clocks that do not exist */
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* Whether it is worth another try before the deadline: errno says what the last one ran into. */
static bool may_try_again(int fd, short events, long long deadline)
{
    long long left = deadline - now();
    if ((errno != EAGAIN && errno != EINTR) || left <= 0)
        return false;
    poll(&(struct pollfd){.fd = fd, .events = events}, 1, left < INT_MAX ? (int)left : INT_MAX);
    return true;
}

/* As recv, into `received`, which then is a string; EAGAIN says that nothing came until the deadline. */
static ssize_t receive(int fd, size_t size, int flags, long long deadline)
{
    ssize_t count;
    do
        count = recv(fd, received, size, flags);
    while (count < 0 && may_try_again(fd, POLLIN, deadline));
    received[count < 0 ? 0 : count] = '\0';
    return count;
}

static bool write_all(int fd, const char *bytes, size_t size, long long deadline)
{
    while (size) {
        ssize_t count = write(fd, bytes, size);
        if (count >= 0) {
            bytes += count;
            size -= (size_t)count;
        } else if (!may_try_again(fd, POLLOUT, deadline)) {
            return false;
        }
    }
    return true;
}

/* What follows the mark; NULL if that has not come. */
static const char *after(const char *text, const char *mark)
{
    const char *found = strstr(text, mark);
    return found ? found + strlen(mark) : NULL;
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

#ifdef __linux__
/* As other systems have it: who listens. */
static int getpeereid(int fd, uid_t *uid, gid_t *gid)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    int failure = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    *uid = peer.uid;
    *gid = peer.gid;
    return failure;
}
#endif

/* Connect, and see who is there: SENT may go on. */
static const char *dial(int *fd, const struct sockaddr_un *address)
{
    uid_t peer;
    gid_t group;
    *fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (0 <= *fd && *fd <= STDERR_FILENO)
        return IDLE; /* a standard stream is closed, and this would be taken for it */
    if (*fd >= 0 && !fcntl(*fd, F_SETFL, O_NONBLOCK) &&
        !connect(*fd, (const struct sockaddr *)address, sizeof *address) && !getpeereid(*fd, &peer, &group))
        return peer == geteuid() ? SENT : STRANGER;
    if (errno == EPERM || errno == EACCES)
        return BLOCKED;
    return errno == EAGAIN ? HUNG : AWAY; /* the queue is full: nobody has accepted for long */
}

/* Take `100 Continue` off the connection, and not a byte of what follows it. SENT: now the body may go. */
static const char *await_go_ahead(int fd, long long deadline)
{
    do {
        ssize_t count = receive(fd, LONGEST_HEAD, MSG_PEEK, deadline);
        const char *end = after(received, BLANK_LINE);
        if (count <= 0)
            return count < 0 && errno == EAGAIN ? HUNG : GONE;
        if (strncmp(received, GO_AHEAD, (size_t)count < strlen(GO_AHEAD) ? (size_t)count : strlen(GO_AHEAD)) != 0)
            return UNSENT;
        if (end)
            return receive(fd, (size_t)(end - received), 0, 0) == end - received ? SENT : GONE;
        if (poll(&(struct pollfd){.fd = fd}, 1, LOOK_AGAIN) > 0) /* the kernel wakes nobody for "more than these" */
            return GONE;
    } while (now() < deadline);
    return HUNG;
}

/* ── the answer: copied out, or left unread ──────────────────────────────────────────────────────────────────────── */

static bool begins(const char *line, const char *field)
{
    return !strncasecmp(line, field, strlen(field));
}

/* The number between blanks that is the rest of the line, of so many digits at most; else -1. */
static long long number(const char *text, size_t most)
{
    const char *first = text + strspn(text, " \t");
    size_t digits = strspn(first, DIGITS);
    const char *rest = first + digits + strspn(first + digits, " \t");
    return digits && digits <= most && !strncmp(rest, LINE_END, strlen(LINE_END)) ? strtoll(first, NULL, 10) : -1;
}

/* Whether the answer, or the beginning of it, is to be copied as it is: no field odd, none there twice. */
static bool plain_answer(const char *seen, struct answer *answer)
{
    const char *first = after(seen, LINE_END), *end = after(seen, BLANK_LINE);
    if (!end || strncmp(seen, OK, strlen(OK)) != 0)
        return false;
    *answer = (struct answer){.head = (size_t)(end - seen), .length = -1, .status = -1};
    for (const char *line = first; line < end - strlen(LINE_END); line = after(line, LINE_END)) {
        size_t name = strspn(line, ALPHANUMERIC "-");
        if (line[name] != ':' || strspn(line, "-") == name || begins(line, "Transfer-Encoding:") ||
            begins(line, "Tasak-Notice:"))
            return false;
        for (const char *other = first; other < line; other = after(other, LINE_END))
            if (!strncasecmp(other, line, name + 1))
                return false;
        if (begins(line, "Content-Length:"))
            answer->length = number(line + name + 1, 15);
        if (begins(line, "Tasak-Exit:"))
            answer->status = (int)number(line + name + 1, 3);
    }
    return answer->length >= 0 && 0 <= answer->status && answer->status < 256;
}

/* Tell the user; the exit status is given back. */
static int complain(int status, const char *message, const char *more)
{
    dprintf(STDERR_FILENO, "tasak: %s%s\n", message, more);
    return status;
}

/* Copy a plain answer out, and end. Come back, with the answer unread, where it is not plain. */
static void relay(int fd, bool wants_json)
{
    struct answer answer;
    ssize_t count = receive(fd, LONGEST_HEAD, MSG_PEEK, now() + STALLED_AFTER);
    if (count <= 0 || !plain_answer(received, &answer) || receive(fd, answer.head, 0, 0) != (ssize_t)answer.head)
        return;
    int output = wants_json || answer.status == 0 || answer.status == TOOL_ERROR ? STDOUT_FILENO : STDERR_FILENO;
    signal(SIGPIPE, SIG_DFL);
    for (; answer.length; answer.length -= count) {
        count = receive(fd, answer.length < PIECE ? (size_t)answer.length : PIECE, 0, now() + STALLED_AFTER);
        if (count <= 0)
            exit(complain(OUTCOME_UNKNOWN, "the daemon broke off its answer; the call may have run", ""));
        if (!write_all(output, received, (size_t)count, LLONG_MAX))
            exit(complain(INTERNAL_ERROR, "cannot write the result: ", strerror(errno)));
    }
    exit(answer.status);
}

/* ── the whole: what may have run is not made again ──────────────────────────────────────────────────────────────── */

/* Send the body where the daemon says that it may come. Come back where there is no plain answer. */
static const char *converse(int fd, const struct call *call, const char *cwd, long long deadline)
{
    char *text = NULL;
    size_t size = 0;
    FILE *body = open_memstream(&text, &size);
    if (body)
        put_body(body, call, cwd);
    if (!body || ferror(body) || fclose(body))
        return IDLE; /* no memory */
    dprintf(fd, "POST /tools/call/%s HTTP/1.1\r\nHost: tasak\r\nContent-Type: application/json\r\nAccept: %s\r\n"
            "Tasak-Version: " TASAK_VERSION "\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
            call->app, call->wants_json ? "application/json" : "text/plain", size);
    const char *state = await_go_ahead(fd, deadline);
    if (state == SENT) {
        write_all(fd, text, size, now() + STALLED_AFTER); /* or what goes: there may still be a refusal to read */
        relay(fd, call->wants_json);
    }
    free(text);
    return state;
}

/* Make the call and end, or say how far it came. */
static const char *attempt(const struct call *call, int *fd)
{
    static char cwd[16 * PATH_MAX];
    if (!getcwd(cwd, sizeof cwd)) /* it was removed under us */
        return IDLE;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *home = getenv("HOME");
    if (!home || *home != '/' ||
        snprintf(address.sun_path, LONGEST_PATH + 1, "%s/.tasak/daemon.sock", home) > LONGEST_PATH)
        return AWAY;
    char folder[LONGEST_PATH + 1];
    snprintf(folder, sizeof folder, "%s/.tasak", home);
    if (!is_private(folder, home))
        return IDLE;
    signal(SIGPIPE, SIG_IGN); /* until there is an answer to write out; tasak-py, as any Python, does the same */
    long long deadline = now() + GO_AHEAD_WITHIN;
    const char *state = dial(fd, &address);
    return state == SENT ? converse(*fd, call, cwd, deadline) : state;
}

/* Become tasak-py: the one beside this program, or where nobody tells which that is, the one in PATH. */
static int hand_over(char **argv, const char *state, int fd)
{
    static char path[PATH_MAX + sizeof SUCCESSOR];
    bool is_unread = state == UNSENT || state == SENT;
    char reply[32];
#ifdef __APPLE__
    char found[PATH_MAX];
    uint32_t size = sizeof found;
    bool is_known = !_NSGetExecutablePath(found, &size) && realpath(found, path);
#else
    bool is_known = readlink("/proc/self/exe", path, PATH_MAX - 1) > 0;
#endif

    memcpy(is_known ? strrchr(path, '/') + 1 : path, SUCCESSOR, sizeof SUCCESSOR);
    snprintf(reply, sizeof reply, "%d:%s", fd, state);
    if (is_unread)
        fcntl(fd, F_SETFL, 0); /* blocks again */
    else
        close(fd);
    if (!setenv("TASAK_REPLY", is_unread ? reply : state, 1))
        execvp(path, argv);
    complain(INTERNAL_ERROR, "cannot run " SUCCESSOR ": ", strerror(errno));
    if (state == SENT)
        return complain(OUTCOME_UNKNOWN, "the call may have run; install tasak again", "");
    return complain(INTERNAL_ERROR, "the call has not run; install tasak again", "");
}

int main(int argc, char **argv)
{
    struct call call = {0};
    const char *state = IDLE, *debug = getenv("TASAK_DEBUG");
    int fd = -1;
    if (argc > 0 && is_plain_call(argv + 1, &call) && (!debug || !*debug || !strcmp(debug, "0")))
        state = attempt(&call, &fd);
    return hand_over(argv, state, fd);
}
