/* Reading tapes, and the way to the recorder: its functions are looked up by name, so that this program runs with and
 * without it. */
#include "tape.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

static bool tape_load(const char *path, struct tape *tape)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return false;
    tape->size = (size_t)status.st_size;
    /* Mapped, not read: a child per state is made much faster when there is less memory to copy. */
    tape->memory = tape->size > 0 ? mmap(NULL, tape->size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    return tape->memory != MAP_FAILED;
}

bool tape_read(const char *path, struct tape *ret_tape)
{
    struct tape tape = {0};
    uint32_t room = 0;
    if (!tape_load(path, &tape))
        return false;
    for (size_t at = 0; at + sizeof(struct tape_event) <= tape.size;) {
        const struct tape_event *event = (const void *)((uint8_t *)tape.memory + at);
        size_t next = at + sizeof *event + (event->size + 7u) / 8u * 8u;
        if (next > tape.size)
            break;
        if (tape.count == room) {
            room = room == 0 ? 1024 : room * 2;
            tape.items = realloc(tape.items, room * sizeof *tape.items);
            ASSERT(tape.items != NULL);
        }
        tape.items[tape.count++] = (struct tape_item){event, (const uint8_t *)(event + 1)};
        at = next;
    }
    *ret_tape = tape;
    return true;
}

void tape_free(struct tape *tape)
{
    free(tape->items);
    munmap(tape->memory, tape->size);
}

/* --- the recorder --- */

static void *recorder_find(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

bool tape_is_there(void)
{
    return recorder_find("recorder_begin") != NULL;
}

bool tape_begin(const char *root, const char *path)
{
    int (*begin)(const char *, const char *);
    *(void **)&begin = recorder_find("recorder_begin");
    return begin != NULL && begin(root, path) != 0;
}

void tape_mark(const void *head, uint32_t head_size, const void *tail, uint32_t tail_size)
{
    void (*mark)(const void *, uint32_t, const void *, uint32_t);
    *(void **)&mark = recorder_find("recorder_mark");
    if (mark != NULL) {
        mark(head, head_size, tail, tail_size);
    }
}

void tape_end(void)
{
    void (*end)(void);
    *(void **)&end = recorder_find("recorder_end");
    if (end != NULL) {
        end();
    }
}

void tape_preload(char **argv, const char *library, const char *symbol)
{
    char self[3072], path[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (recorder_find(symbol) != NULL)
        return;
    ASSERT(length > 0);
    self[length] = '\0';
    snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(self, '/') - self), self, library);
    if (getenv("LD_PRELOAD") != NULL || setenv("LD_PRELOAD", path, 1) != 0 || execv(self, argv) != 0) {
        fprintf(stderr, "crash: %s cannot be preloaded\n", path);
        exit(2);
    }
}
