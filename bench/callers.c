/*
 * Calls the CNI socket as many executables at once would, without executing one for each: what is left is the daemon's
 * own pace. Each caller is a thread with one call under way; frames as cni-bin/frame.ts has them.
 *
 *   callers SOCKET COMMAND FIRST COUNT IN_FLIGHT NETNS <configuration
 *   out   <microseconds>                        of all calls; exit status 1 and the answer when one was refused
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 32, MAX_CALLERS = 256, MAX_CONFIGURATION = 4096, MAX_FRAME = 8192, MAX_ANSWER = 65536 };

static const char *command, *netns;
static char configuration[MAX_CONFIGURATION];
static size_t configuration_length;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct stat namespace;
static atomic_int next;
static int end;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static size_t make_frame(char *frame, int number) {
    int length = snprintf(frame + HEADER, MAX_FRAME - HEADER,
        "twill-ipam%cCNI_COMMAND=%s%cCNI_CONTAINERID=call-%d%cCNI_NETNS=%s%cCNI_IFNAME=eth0%cCNI_PATH=/opt/cni/bin%c", 0, command,
        0, number, 0, netns, 0, 0, 0);
    uint32_t sizes[3] = {(uint32_t)length, (uint32_t)configuration_length, 0};
    uint64_t identity[2] = {namespace.st_dev, namespace.st_ino};
    memcpy(frame, "TWL1", 4), memcpy(frame + 4, sizes, 12), memcpy(frame + 16, identity, 16);
    memcpy(frame + HEADER + length, configuration, configuration_length);
    return HEADER + (size_t)length + configuration_length;
}

static void call(int number, char *frame, char *answer) {
    size_t length = make_frame(frame, number), filled = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    if (write(fd, frame, length) != (ssize_t)length) die("write");
    for (ssize_t got; filled < MAX_ANSWER && (got = read(fd, answer + filled, MAX_ANSWER - filled)) > 0; filled += (size_t)got);
    close(fd);
    uint32_t status = 1;
    if (filled >= 8) memcpy(&status, answer, sizeof status);
    if (status == 0) return;
    printf("call %d: status %u: %.*s\n", number, status, filled > 8 ? (int)filled - 8 : 0, answer + 8);
    exit(1);
}

static void *caller(void *unused) {
    char *frame = malloc(MAX_FRAME), *answer = malloc(MAX_ANSWER);
    for (int number; (number = atomic_fetch_add(&next, 1)) < end;) call(number, frame, answer);
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int callers = atoi(argv[5]);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    command = argv[2], netns = argv[6];
    atomic_init(&next, atoi(argv[3]));
    end = atoi(argv[3]) + atoi(argv[4]);
    configuration_length = fread(configuration, 1, sizeof configuration, stdin);
    if (callers < 1 || callers > MAX_CALLERS || stat(netns, &namespace) != 0) die(netns);
    pthread_t threads[MAX_CALLERS];
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (int i = 0; i < callers; i++)
        if (pthread_create(&threads[i], NULL, caller, NULL) != 0) die("pthread_create");
    for (int i = 0; i < callers; i++) pthread_join(threads[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.0f\n", (double)(ended.tv_sec - begun.tv_sec) * 1e6 + (double)(ended.tv_nsec - begun.tv_nsec) / 1e3);
    return 0;
}
