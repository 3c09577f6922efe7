/*
 * A CNI plugin that executes another and measures it from before posix_spawn until it has ended: how long a runtime
 * waits for it. Input, output and environment pass through.
 *
 * Installed as /opt/cni/bin/timed-NAME it executes /opt/cni/bin/NAME and appends "COMMAND microseconds" to
 * /run/timed-plugin.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    const char *name = argc > 0 ? strstr(argv[0], "timed-") : NULL;
    const char *command = getenv("CNI_COMMAND");
    char program[256], line[128];
    int status, log;
    pid_t pid;
    if (!name || !command) return 2;
    snprintf(program, sizeof program, "/opt/cni/bin/%s", name + strlen("timed-"));
    double begun = now_us();
    if (posix_spawn(&pid, program, NULL, NULL, (char *[]){program, NULL}, environ) != 0) return 3;
    if (waitpid(pid, &status, 0) != pid) return 4;
    int length = snprintf(line, sizeof line, "%s %.0f\n", command, now_us() - begun);
    log = open("/run/timed-plugin", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0 || write(log, line, (size_t)length) != length) return 5;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 6;
}
