/* Assertions that stay on in release. A failed one is a bug of ours: it prints where and what, then aborts.
 * Bad input, a bad disk or a bad peer is never an assertion, it is an enum err. */
#ifndef FLOTILLA_BASE_ASSERT_H
#define FLOTILLA_BASE_ASSERT_H

_Noreturn void assert__fail(const char *file, int line, const char *function, const char *what);

#define ASSERT(condition)                                                              \
    do {                                                                               \
        if (__builtin_expect(!(condition), 0))                                         \
            assert__fail(__FILE__, __LINE__, __func__, #condition);                    \
    } while (0)

#define UNREACHABLE() assert__fail(__FILE__, __LINE__, __func__, "unreachable")

#endif
