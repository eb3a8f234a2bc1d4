/* CRC-32C: the value that everybody gets, whatever the length, whatever the alignment, in one piece or in several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "base/rng.h"

/* Bit by bit, as the definition has it. */
static uint32_t slowly(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

static void the_check_value(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void every_length_and_alignment(void **state)
{
    static uint8_t data[700 + 8];
    struct rng rng;
    (void)state;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)rng_next(&rng);
    }
    for (size_t size = 0; size <= 700; size++) {
        const uint8_t *at = data + size % 8;
        uint32_t seed = (uint32_t)rng_next(&rng);
        uint32_t expected = slowly(seed, at, size);
        size_t part = rng_below(&rng, size + 1);
        assert_int_equal(crc32c(seed, at, size), expected);
        assert_int_equal(crc32c(crc32c(seed, at, part), at + part, size - part), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_check_value), cmocka_unit_test(every_length_and_alignment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
