/* The partitioner against values of Kafka's own unit tests and of kafka-python 2.0.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "wire/partitioner.h"

static const struct {
    const char *key;
    int32_t hash;
    uint32_t of_1000;
} vectors[] = {
    {"", 275646681, 681},
    {"a", -1563381124, 524},
    {"ab", 316155434, 434},
    {"abc", 479470107, 107},
    {"abcd", -1323649548, 100},
    {"21", -973932308, 340},
    {"foobar", -790332482, 166},
    {"a-little-bit-long-string", -985981536, 112},
    {"a-little-bit-longer-string", -1486304829, 819},
    {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 677},
    {"\xff\x80\x7f", 968261134, 134},
    {"\xfa\xfb\xfc\xfd\xfe\xff", -477215913, 735},
};

static void hashes_like_kafka(void **state)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t size = (uint32_t)strlen(vectors[i].key);
        assert_int_equal((int32_t)partitioner_hash(vectors[i].key, size), vectors[i].hash);
        assert_int_equal(partitioner_choose(vectors[i].key, size, 1000), vectors[i].of_1000);
        assert_int_equal(partitioner_choose(vectors[i].key, size, 1), 0);
    }
}

static void alignment_does_not_matter(void **state)
{
    char memory[64];
    for (size_t shift = 0; shift < 8; shift++) {
        memcpy(memory + shift, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 48);
        assert_int_equal((int32_t)partitioner_hash(memory + shift, 48), -58897971);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_like_kafka),
        cmocka_unit_test(alignment_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
