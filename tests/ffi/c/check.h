/* What the C tests assert with: a line on standard error and the end. */
#ifndef RINGWAY_TEST_CHECK_H
#define RINGWAY_TEST_CHECK_H

#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s is false (%s)\n", __FILE__, __LINE__, #condition,           \
                ringway_last_error());                                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A call has to return this very status. */
#define EXPECT(status, call)                                                                       \
    do {                                                                                           \
        int32_t expect_status_ = (call);                                                           \
        if (expect_status_ != (status)) {                                                          \
            fprintf(stderr, "%s:%d: %s returned %s (%s), not %s\n", __FILE__, __LINE__, #call,     \
                ringway_status_text(expect_status_), ringway_last_error(), #status);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define DONE(call) EXPECT(RINGWAY_OK, call)

#endif
