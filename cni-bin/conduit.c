/*
 * twill, the CNI executable: hands environment, namespace and stdin to twilld and prints its answer. It parses
 * nothing; frame.ts has the layout of what goes over the socket. When the daemon is away, silent or broken, or
 * a case needs thought, it becomes twill-offline (beside it), with stdin as it was and TWILL_CONDUIT saying why.
 * No stdio and no malloc: it has to start like /bin/true. Build: cc -O2 -static -s (hack/build-cni).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef TWILL_SOCKET
#define TWILL_SOCKET "/run/twill/cni.sock"
#endif
#define SILENCE_S 10
#define HEADER 32
#define MAX_ENTRIES (256 * 1024)
#define MAX_STDIN (4 * 1024 * 1024)
#define MAX_ANSWER (4 * 1024 * 1024)

extern char **environ;
/* Pages of these that are not touched cost nothing. */
static char frame[HEADER + MAX_ENTRIES + MAX_STDIN + 1], answer[8 + MAX_ANSWER];

static int send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = write(fd, bytes, length);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return -1;
        bytes += sent, length -= (size_t)sent;
    }
    return 0;
}

/* Reads until `length` bytes, end or error; returns how many. errno is 0 at the end. */
static size_t receive(int fd, char *bytes, size_t length) {
    size_t filled = 0;
    while (filled < length) {
        errno = 0;
        ssize_t got = read(fd, bytes + filled, length - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        filled += (size_t)got;
    }
    return filled;
}

/* Without /proc the path that the kernel was given at exec has to do. */
static void become_offline(char **argv, const char *why, const char *input, size_t length) {
    static const char offline[] = "twill-offline", failure[] = "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":"
        "\"twilld does not answer, and twill-offline cannot be executed\"}\n";
    char path[4096 + sizeof offline] = "";
    if (readlink("/proc/self/exe", path, 4095) < 0) strncpy(path, (char *)getauxval(AT_EXECFN), 4095);
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, offline);
    int memory = input ? memfd_create("stdin", MFD_CLOEXEC) : -1;
    if (memory >= 0 && send_all(memory, input, length) == 0 && lseek(memory, 0, SEEK_SET) == 0) dup2(memory, 0);
    setenv("TWILL_CONDUIT", why, 1);
    execve(path, argv, environ);
    send_all(1, failure, sizeof failure - 1);
    _exit(1);
}

static int reach_daemon(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("TWILL_CNI_SOCKET"); /* for tests; whoever sets it is root already */
    strncpy(address.sun_path, path && *path ? path : TWILL_SOCKET, sizeof address.sun_path - 1);
    struct timeval silence = {.tv_sec = SILENCE_S};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

int main(int argc, char **argv) {
    const char *command = getenv("CNI_COMMAND"), *netns = getenv("CNI_NETNS");
    (void)argc, signal(SIGPIPE, SIG_IGN);
    if (!command || !*command) become_offline(argv, "away", NULL, 0);
    char *end = stpcpy(frame + HEADER, program_invocation_short_name) + 1;
    for (char **entry = environ; *entry; end += strlen(*entry++) + 1) {
        if (strncmp(*entry, "CNI_", 4) != 0 || !strchr(*entry, '=')) { end -= strlen(*entry) + 1; continue; }
        if (end + strlen(*entry) >= frame + HEADER + MAX_ENTRIES) become_offline(argv, "away", NULL, 0);
        strcpy(end, *entry);
    }
    size_t length = receive(0, end, MAX_STDIN + 1);
    if (errno != 0 || length > MAX_STDIN) become_offline(argv, "away", length ? end : NULL, length);
    struct stat seen = {0};
    int space = netns && *netns ? open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (space >= 0) fstat(space, &seen);
    uint32_t sizes[3] = {htole32((uint32_t)(end - frame - HEADER)), htole32((uint32_t)length), 0};
    uint64_t identity[2] = {htole64(seen.st_dev), htole64(seen.st_ino)};
    memcpy(frame, "TWL1", 4), memcpy(frame + 4, sizes, 12), memcpy(frame + 16, identity, 16);
    int daemon = reach_daemon();
    if (daemon < 0) become_offline(argv, errno == EAGAIN ? "silent" : "away", end, length);
    uint32_t head[2] = {0, 0};
    int sent = send_all(daemon, frame, (size_t)(end - frame) + length);
    if (sent == 0 && receive(daemon, answer, 8) == 8) memcpy(head, answer, 8);
    else become_offline(argv, errno == EAGAIN ? "silent" : "away", end, length);
    size_t text = le32toh(head[1]);
    if (le32toh(head[0]) > 255 || text > MAX_ANSWER || receive(daemon, answer + 8, text) != text)
        become_offline(argv, errno == EAGAIN ? "silent" : "away", end, length);
    return send_all(1, answer + 8, text) == 0 ? (int)le32toh(head[0]) : 1;
}
