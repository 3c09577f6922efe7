/*
 * twill, the CNI executable: hands environment, namespace and stdin to twilld and prints its answer. It parses
 * nothing (layout: frame.ts; little-endian machines only). When the daemon is away, silent or broken, or a case
 * needs thought, it becomes twill-offline (beside it), with stdin as it was and TWILL_CONDUIT saying why. No
 * stdio and no malloc: it has to start like /bin/true.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifndef TWILL_SOCKET
#define TWILL_SOCKET "/run/twill/cni.sock"
#endif
enum { SILENCE_S = 10, HEADER = 32, MAX_ENTRIES = 256 << 10, MAX_STDIN = 4 << 20, MAX_ANSWER = 4 << 20, PATHS = 4096 };
/* Pages of these that are not touched cost nothing. */
static char frame[HEADER + MAX_ENTRIES + MAX_STDIN + 1], answer[MAX_ANSWER];

/* A blocking descriptor takes all at once, unless its time-out (EAGAIN) has struck. */
static int send_all(int fd, const char *bytes, size_t length) {
    ssize_t sent;
    do sent = write(fd, bytes, length); while (sent < 0 && errno == EINTR);
    if (sent >= 0) errno = EAGAIN;
    return sent == (ssize_t)length;
}
/* Reads until `length` bytes, end or error, and returns how many; errno is 0 unless it was an error. */
static size_t receive(int fd, void *bytes, size_t length) {
    for (size_t filled = 0;;) {
        errno = 0;
        ssize_t got = filled < length ? read(fd, (char *)bytes + filled, length - filled) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return filled;
        filled += (size_t)got;
    }
}

/* Never returns. Bun aborts without /proc and in a deleted working directory: no program but this can say so. */
static void become_offline(char **argv, const char *why, const char *input, size_t length) {
    static const char offline[] = "/twill-offline", failure[] = "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":"
        "\"twilld does not answer, and twill-offline cannot be executed\"}\n";
    char path[PATHS + sizeof offline] = "", here[PATHS];
    ssize_t known = readlink("/proc/self/exe", path, PATHS - 1);
    int memory = input ? memfd_create("stdin", MFD_CLOEXEC) : -1;
    if (memory >= 0 && send_all(memory, input, length) && lseek(memory, 0, SEEK_SET) == 0) dup2(memory, 0);
    if (known > 0 && (getcwd(here, sizeof here) || chdir("/") == 0) && setenv("TWILL_CONDUIT", why, 1) == 0) {
        strcpy(strrchr(path, '/'), offline);
        execv(path, argv);
    }
    send_all(1, failure, sizeof failure - 1);
    _exit(1);
}

/* A connected socket, or -1. The variable is for tests; whoever sets it is root already. */
static int reach_daemon(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval silence = {.tv_sec = SILENCE_S};
    const char *path = getenv("TWILL_CNI_SOCKET");
    strncpy(address.sun_path, path && *path ? path : TWILL_SOCKET, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int room = 16 << 20; /* the whole frame fits: SO_SNDTIMEO begins anew with each piece that is taken */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

/* Appends text with its NUL at `end` and returns the new end, or NULL when it does not fit. */
static char *append(char *end, const char *text) {
    size_t size = strlen(text) + 1;
    return end && end + size <= frame + HEADER + MAX_ENTRIES ? (char *)memcpy(end, text, size) + size : NULL;
}

int main(int argc __attribute__((unused)), char **argv) {
    const char *command = getenv("CNI_COMMAND"), *netns = getenv("CNI_NETNS");
    char *end = append(frame + HEADER, program_invocation_short_name);
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0 && strchr(*entry, '=')) end = append(end, *entry);
    if (!command || !*command || !end) become_offline(argv, "away", NULL, 0);
    size_t length = receive(0, end, MAX_STDIN + 1);
    if (errno != 0 || length > MAX_STDIN) become_offline(argv, "away", length ? end : NULL, length);
    signal(SIGPIPE, SIG_IGN);
    struct stat space = {0}; /* the namespace stays open: its inode number cannot be reused meanwhile */
    if (netns && *netns) fstat(open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK), &space);
    uint32_t sizes[3] = {(uint32_t)(end - frame - HEADER), (uint32_t)length, 0}, head[2];
    uint64_t identity[2] = {space.st_dev, space.st_ino};
    memcpy(frame, "TWL1", 4), memcpy(frame + 4, sizes, 12), memcpy(frame + 16, identity, 16);
    int daemon = reach_daemon();
    if (daemon < 0 || !send_all(daemon, frame, (size_t)(end - frame) + length) || receive(daemon, head, 8) != 8
        || head[0] > 255 || head[1] > MAX_ANSWER || receive(daemon, answer, head[1]) != head[1])
        become_offline(argv, errno == EAGAIN ? "silent" : "away", end, length);
    return send_all(1, answer, head[1]) ? (int)head[0] : 1;
}
