/* Options of the sanitizers for all targets. Undefined behaviour ends the run as every other fault does. Freed memory
 * is kept from reuse for a short while only: with the usual 256 MiB of it every block is a fresh page, and page faults
 * are most of the time of a small input. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "quarantine_size_mb=2:thread_local_quarantine_size_kb=256:malloc_context_size=12";
}

__attribute__((visibility("default"))) const char *__ubsan_default_options(void)
{
    return "halt_on_error=1:print_stacktrace=1";
}
