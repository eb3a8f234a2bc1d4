/* Receive memory: what a connection keeps of the chunk that all read into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/inbox.h"

#define BUDGET_BYTES (8u << 20)

/* Reads `size` bytes of this value; returns where they stand. */
static uint8_t *read_bytes(struct inbox *inbox, uint8_t value, uint32_t size)
{
    uint8_t *data;
    size_t room;
    assert_int_equal(inbox_space(inbox, UINT32_MAX, &data, &room), OK);
    assert_true(room >= size);
    memset(data, value, size);
    inbox_filled(inbox, size);
    return data;
}

static void assert_kept(const struct slice *kept, uint8_t value)
{
    for (uint32_t i = 0; i < kept->size; i++) {
        assert_int_equal(kept->data[i], value);
    }
}

/* A batch and a bad frame in one read: the connection is closed in the middle of its bytes. */
static void kept_bytes_outlive_a_connection_that_is_closed(void **state)
{
    struct receive receive;
    struct inbox first, second;
    (void)state;
    receive_init(&receive, BUDGET_BYTES);
    inbox_init(&first, &receive);
    inbox_init(&second, &receive);
    const uint8_t *data = read_bytes(&first, 0x11, 1000);
    struct slice kept = inbox_keep(&first, data + 100, 500);
    inbox_consume(&first, 600);
    inbox_clear(&first);
    read_bytes(&second, 0x22, 2000);
    assert_kept(&kept, 0x11);
    inbox_consume(&second, 2000);
    assert_int_equal(inbox_settle(&second, 0), OK);
    assert_kept(&kept, 0x11);
    slice_unref(&kept);
    inbox_clear(&second);
    receive_deinit(&receive);
}

/* The rest of a frame moves away, and comes back before the bytes that follow it; what was kept before it stays. */
static void a_parked_beginning_meets_its_end(void **state)
{
    struct receive receive;
    struct inbox first, second;
    (void)state;
    receive_init(&receive, BUDGET_BYTES);
    inbox_init(&first, &receive);
    inbox_init(&second, &receive);
    const uint8_t *data = read_bytes(&first, 0x11, 700);
    struct slice kept = inbox_keep(&first, data, 500);
    inbox_consume(&first, 500);
    assert_int_equal(inbox_settle(&first, 0), OK);
    assert_int_equal(inbox_held(&first), 200);
    read_bytes(&second, 0x22, 2000);
    inbox_consume(&second, 2000);
    assert_int_equal(inbox_settle(&second, 0), OK);
    read_bytes(&first, 0x33, 300);
    assert_int_equal(inbox_size(&first), 500);
    assert_int_equal(inbox_data(&first)[199], 0x11);
    assert_int_equal(inbox_data(&first)[200], 0x33);
    assert_kept(&kept, 0x11);
    inbox_consume(&first, 500);
    assert_int_equal(inbox_settle(&first, 0), OK);
    assert_int_equal(receive.held_bytes, 0);
    slice_unref(&kept);
    inbox_clear(&first);
    inbox_clear(&second);
    receive_deinit(&receive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_bytes_outlive_a_connection_that_is_closed),
        cmocka_unit_test(a_parked_beginning_meets_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
