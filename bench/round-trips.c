/*
 * Request and response over one TCP connection, one octet each way, nothing else under way (netperf's TCP_RR).
 *
 *   round-trips serve ADDRESS PORT            answers one connection after the other, until it is ended
 *   round-trips ask ADDRESS PORT COUNT        prints the time of each round trip, in microseconds, one a line
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void at_once(int fd) {
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static void serve(int fd, struct sockaddr_in *address) {
    int yes = 1;
    char octet;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)address, sizeof *address) != 0 || listen(fd, 1) != 0) die("listen");
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        if (peer < 0) die("accept");
        at_once(peer);
        while (read(peer, &octet, 1) == 1 && write(peer, &octet, 1) == 1) continue;
        close(peer);
    }
}

static void ask(int fd, struct sockaddr_in *address, int count) {
    char octet = 'x';
    if (connect(fd, (struct sockaddr *)address, sizeof *address) != 0) die("connect");
    at_once(fd);
    for (int i = 0; i < count; i++) {
        double begun = now_us();
        if (write(fd, &octet, 1) != 1 || read(fd, &octet, 1) != 1) die("round trip");
        printf("%.1f\n", now_us() - begun);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3]))};
    if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) return 2;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (strcmp(argv[1], "serve") == 0) serve(fd, &address);
    else ask(fd, &address, argc > 4 ? atoi(argv[4]) : 1000);
    return 0;
}
