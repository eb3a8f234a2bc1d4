/* Plays golden scenarios and compares what happens with what their authors expect.
 *
 *   golden [--rewrite] SCRIPT...
 *
 * A script is lines of text: "# ..." is the story, a line that begins in the first column is a command (commands.c),
 * lines indented by four spaces behind it are what is expected to happen. "hush COMMAND" happens without being told.
 * --rewrite puts what happened in the place of what was expected: read the difference, and believe it only if the paper
 * does. The oracle of the unit tests watches too. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

/* Where we are, for those who end the process: the oracle, or an assertion. */
static char where[512];

static void tell_where(void)
{
    ssize_t written = write(STDERR_FILENO, where, strlen(where));
    (void)written;
}

static void on_abort(int signal_number)
{
    tell_where();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    char *text = NULL;
    size_t size = 0;
    ssize_t got = getdelim(&text, &size, '\0', file);
    fclose(file);
    if (got < 0) {
        fprintf(stderr, "%s: empty\n", path);
        exit(1);
    }
    return text;
}

/* The script with what really happens, in memory of its own. */
static char *play(const char *path, char *script)
{
    char *played = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&played, &size);
    struct stage *stage = calloc(1, sizeof *stage);
    if (out == NULL || stage == NULL) {
        perror("memory");
        exit(1);
    }
    stage->out = out;
    int number = 0;
    for (char *line = script, *end; line != NULL && *line != '\0'; line = end) {
        end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        number++;
        if (strncmp(line, "    ", 4) == 0) {
            continue;
        }
        fprintf(out, "%s\n", line);
        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        snprintf(where, sizeof where, "in %s:%d: %s\n", path, number, line);
        if (!command_run(stage, line)) {
            fprintf(stderr, "%s:%d: not understood: %s\n", path, number, line);
            exit(1);
        }
    }
    stage_close(stage);
    free(stage);
    fclose(out);
    where[0] = '\0';
    return played;
}

/* Prints the first difference. */
static void tell_difference(const char *path, const char *expected, const char *happened)
{
    int line = 1;
    const char *a = expected;
    const char *b = happened;
    while (strcspn(a, "\n") == strcspn(b, "\n") && strncmp(a, b, strcspn(a, "\n")) == 0 && *a != '\0') {
        a += strcspn(a, "\n") + 1;
        b += strcspn(b, "\n") + 1;
        line++;
    }
    fprintf(stderr, "%s:%d: expected\n%.*s\n  happened\n%.*s\n", path, line, (int)strcspn(a, "\n"), a,
            (int)strcspn(b, "\n"), b);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    signal(SIGABRT, on_abort);
    atexit(tell_where);
    bool rewrite = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    int failed = 0;
    int first = rewrite ? 2 : 1;
    for (int i = first; i < argc; i++) {
        char *expected = read_file(argv[i]);
        char *script = strdup(expected);
        char *happened = play(argv[i], script);
        if (strcmp(expected, happened) != 0 && rewrite) {
            write_file(argv[i], happened);
        } else if (strcmp(expected, happened) != 0) {
            tell_difference(argv[i], expected, happened);
            failed++;
        }
        free(expected);
        free(script);
        free(happened);
    }
    printf("golden: %d passed, %d failed\n", argc - first - failed, failed);
    return failed > 0 || argc == first;
}
