/* What this machine can do, measured with nothing of Flotilla in between, so that its figures can be given as ratios:
 *
 *   limits DIRECTORY     prints lines "name value unit"
 *
 * sync_p50, sync_p99: overwrite 4 KiB of a file that was written before, then fdatasync, as the log does for a lone
 * record. write: overwrite a file in pieces of 512 KiB with an fdatasync each 4 MiB. loopback_p50: 100 bytes there and
 * back over TCP between two threads. memcpy: 256 MiB, too large for any cache. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

#define FILE_BYTES    (256u << 20)
#define PIECE_BYTES   (512u << 10)
#define BLOCK_BYTES   4096u
#define SYNCS         2000u
#define ROUND_TRIPS   20000u
#define MESSAGE_BYTES 100u
#define WRITE_PASSES  8u
#define COPY_BYTES    ((size_t)256 << 20)
#define COPIES        8u

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_percentiles(const char *name, uint64_t *ns, size_t count)
{
    qsort(ns, count, sizeof *ns, compare);
    printf("%s_p50 %.1f us\n%s_p99 %.1f us\n", name, (double)ns[count / 2] / 1e3, name,
           (double)ns[count * 99 / 100] / 1e3);
}

/* --- disk --- */

static int file_open(const char *directory, uint8_t *piece)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/limits", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    unlink(path);
    for (uint64_t at = 0; at < FILE_BYTES; at += PIECE_BYTES) {
        ASSERT(pwrite(fd, piece, PIECE_BYTES, (off_t)at) == PIECE_BYTES);
    }
    ASSERT(fsync(fd) == 0);
    return fd;
}

static void measure_sync(int fd, const uint8_t *piece)
{
    static uint64_t ns[SYNCS];
    for (size_t i = 0; i < SYNCS; i++) {
        uint64_t start = now_ns();
        ASSERT(pwrite(fd, piece, BLOCK_BYTES, (off_t)(i * BLOCK_BYTES)) == BLOCK_BYTES);
        ASSERT(fdatasync(fd) == 0);
        ns[i] = now_ns() - start;
    }
    print_percentiles("sync", ns, SYNCS);
}

static void measure_write(int fd, const uint8_t *piece)
{
    uint64_t start = now_ns();
    for (unsigned pass = 0; pass < WRITE_PASSES; pass++) {
        for (uint64_t at = 0; at < FILE_BYTES; at += PIECE_BYTES) {
            ASSERT(pwrite(fd, piece, PIECE_BYTES, (off_t)at) == PIECE_BYTES);
            if (at / PIECE_BYTES % 8 == 7) {
                ASSERT(fdatasync(fd) == 0);
            }
        }
    }
    printf("write %.0f MB/s\n", (double)FILE_BYTES * WRITE_PASSES / 1e6 / ((double)(now_ns() - start) / 1e9));
}

/* --- network --- */

static void transfer(int fd, bool out, uint8_t *message)
{
    for (size_t done = 0; done < MESSAGE_BYTES;) {
        ssize_t size =
            out ? send(fd, message + done, MESSAGE_BYTES - done, 0) : recv(fd, message + done, MESSAGE_BYTES - done, 0);
        ASSERT(size > 0);
        done += (size_t)size;
    }
}

static void *echo_run(void *context)
{
    uint8_t message[MESSAGE_BYTES];
    int one = 1, fd = accept(*(int *)context, NULL, NULL);
    ASSERT(fd >= 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (size_t i = 0; i < ROUND_TRIPS; i++) {
        transfer(fd, false, message);
        transfer(fd, true, message);
    }
    close(fd);
    return NULL;
}

static void measure_loopback(void)
{
    static uint64_t ns[ROUND_TRIPS];
    uint8_t message[MESSAGE_BYTES] = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    pthread_t thread;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    ASSERT(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    ASSERT(pthread_create(&thread, NULL, echo_run, &listener) == 0);
    ASSERT(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (size_t i = 0; i < ROUND_TRIPS; i++) {
        uint64_t start = now_ns();
        transfer(fd, true, message);
        transfer(fd, false, message);
        ns[i] = now_ns() - start;
    }
    pthread_join(thread, NULL);
    close(fd);
    close(listener);
    print_percentiles("loopback", ns, ROUND_TRIPS);
}

/* --- memory --- */

static void measure_memcpy(void)
{
    uint8_t *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    ASSERT(from != NULL && to != NULL);
    memset(from, 1, COPY_BYTES);
    memset(to, 2, COPY_BYTES);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < COPIES; i++) {
        from[i] = (uint8_t)i;
        memcpy(to, from, COPY_BYTES);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    printf("memcpy %.0f MB/s\n", (double)COPY_BYTES * COPIES / 1e6 / ((double)(now_ns() - start) / 1e9));
    free(from);
    free(to);
}

int main(int argc, char **argv)
{
    static uint8_t piece[PIECE_BYTES];
    if (argc != 2) {
        fprintf(stderr, "usage: limits DIRECTORY\n");
        return 2;
    }
    memset(piece, 0xa5, sizeof piece);
    int fd = file_open(argv[1], piece);
    measure_sync(fd, piece);
    measure_write(fd, piece);
    close(fd);
    measure_loopback();
    measure_memcpy();
    return 0;
}
