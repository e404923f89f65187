/* The calls about what is to be done once. See boundary.c. */
#include "boundary.h"

/* What is to be done once. The last token that was given, or another. */
void results_call(embq_ref b, struct slice bytes, const struct record *r) {
    static char token[sizeof(int64_t)];
    char good[] = {'s', 0, (char)('a' + r->a % 4)};
    const char *names = r->n & 1 ? good : bytes.data;
    size_t size = r->n & 1 ? sizeof good : bytes.size;
    embq_bytes answer = {0};
    int code = 0;
    switch (r->c % 8) {
    case 0:
        checked(embq_result_set(b, names, size, bytes.data, bytes.size,
                                input_number(r->c, r->v), (int)(r->v >> 40 & 3) - 1));
        break;
    case 1: checked(embq_result_get(b, names, size, &answer)); break;
    case 2: checked(embq_result_get(b, names, size, NULL)); break;
    case 3: checked(embq_result_delete(b, names, size)); break;
    case 4:
        code = embq_result_begin(b, names, size, r->b & 1, &answer);
        while (code == EMBQ_INTERRUPTED) code = (int)embq_resume();
        CHECK((checked(code) == EMBQ_RESULT_BEGUN) == (answer.count == 1));
        if (answer.count) memcpy(token, answer.data, sizeof token);
        break;
    case 5:
        code = embq_result_end(b, names, size, token, bytes.data, bytes.size,
                               input_number(r->b, r->v), &answer);
        checked(code);
        break;
    case 6: checked(embq_result_free(b, names, size, token)); break;
    default: checked(embq_scopes(b, &answer));
    }
    embq_bytes_free(&answer);
}
