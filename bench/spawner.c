/*
 * Executes programs the way a runtime does, and measures each from before posix_spawn until it has ended, so that what
 * the measuring itself takes (Node's spawn: some 3 ms) does not drown what is measured.
 *
 *   in    RUN <count> <in flight>            then <count> lines: program TAB stdin TAB NAME=value TAB NAME=value ...
 *   out   <index> TAB <microseconds> TAB <exit status> TAB <its output, in one line>       in order of their ends
 *         TOTAL TAB <microseconds>
 *
 * Trap: output is read after the end; a program that writes more than a pipe holds (64 KiB) never ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_JOBS = 4096, MAX_ENTRIES = 64, MAX_OUTPUT = 65536 };

struct job {
    char *program, *input, *environment[MAX_ENTRIES];
    pid_t pid;
    int output;
    double begun_us;
};
static struct job jobs[MAX_JOBS];
static char text[MAX_OUTPUT + 1];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void parse(struct job *job, char *line) {
    int entries = 0;
    line[strcspn(line, "\n")] = 0;
    job->program = strsep(&line, "\t");
    job->input = strsep(&line, "\t");
    while (line && entries < MAX_ENTRIES - 1) job->environment[entries++] = strsep(&line, "\t");
    job->environment[entries] = NULL;
    if (!job->input) die("a job without stdin");
}

/* What a job is given is made before the clock starts. */
static void start(struct job *job) {
    int input = memfd_create("stdin", MFD_CLOEXEC), ends[2];
    size_t length = strlen(job->input);
    if (input < 0 || write(input, job->input, length) != (ssize_t)length || lseek(input, 0, SEEK_SET) != 0) die("stdin");
    if (pipe2(ends, O_CLOEXEC) != 0) die("pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    char *argv[] = {job->program, NULL};
    job->begun_us = now_us();
    if (posix_spawn(&job->pid, job->program, &actions, NULL, argv, job->environment) != 0) die(job->program);
    posix_spawn_file_actions_destroy(&actions);
    close(input), close(ends[1]);
    job->output = ends[0];
}

static void finish(int index, int status, double ended_us) {
    struct job *job = &jobs[index];
    ssize_t length = read(job->output, text, MAX_OUTPUT);
    close(job->output);
    text[length > 0 ? length : 0] = 0;
    for (char *c = text; *c; c++)
        if (*c == '\n' || *c == '\t') *c = ' ';
    printf("%d\t%.1f\t%d\t%s\n", index, ended_us - job->begun_us, WIFEXITED(status) ? WEXITSTATUS(status) : 255, text);
}

static void run(int count, int in_flight) {
    double begun = now_us();
    for (int started = 0, ended = 0; ended < count;) {
        while (started < count && started - ended < in_flight) start(&jobs[started++]);
        int status;
        pid_t pid = wait(&status);
        double at = now_us();
        for (int i = 0; i < started; i++)
            if (jobs[i].pid == pid) {
                jobs[i].pid = 0;
                finish(i, status, at);
                ended++;
            }
    }
    printf("TOTAL\t%.1f\n", now_us() - begun);
    fflush(stdout);
}

int main(void) {
    static char *lines[MAX_JOBS];
    static size_t sizes[MAX_JOBS];
    char *command = NULL;
    size_t size = 0;
    int count, in_flight;
    while (getline(&command, &size, stdin) > 0) {
        if (sscanf(command, "RUN %d %d", &count, &in_flight) != 2 || count > MAX_JOBS || in_flight < 1) die(command);
        for (int i = 0; i < count; i++) {
            if (getline(&lines[i], &sizes[i], stdin) <= 0) die("a job is missing");
            parse(&jobs[i], lines[i]);
        }
        run(count, in_flight);
    }
    return 0;
}
