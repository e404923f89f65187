"""Planted bugs of what is to be done once: promises 1, 7 and 8."""

from __future__ import annotations

from mutant import mutant

RESULT, RECALL, HITS = "csrc/result.c", "csrc/recall.c", "csrc/hits.c"
STATEMENT, OWNER, KEEPER = "csrc/statement.c", "csrc/owner.c", "csrc/keeper.c"
PYTHON, HANDLES = "embq/idempotency.py", "embq/_handles.py"
CONTRACT, ONCE = "contract/test_idempotency.py", "test_once.py"
RESULTS = "test_results.py"
SYNCED = "test_confirming.py::test_what_is_synced_before_it_returns"
STORED = (
    "    if (there && !f.owner && f.expires_ms > clock_wall_ms())\n"
    "        return answer_stored(e, op, &n, &f, 0);\n"
)
GIVE_UP = (
    "            begun.give_up()  # or a signal came before we knew that it was ours\n"
)

MUTANTS = [
    mutant(
        "Two callers are at one key at a time",
        "7",
        f"{ONCE}::test_processes_at_once",
        (
            RESULT,
            "    if (there && f.owner) {\n        ATOMIC",
            "    if (there && f.owner < 0) {\n        ATOMIC",
        ),
    ),
    mutant(
        "A function that failed leaves its key taken",
        "8",
        f"{CONTRACT}::test_a_failure_is_not_stored[core]",
        (PYTHON, GIVE_UP, ""),
    ),
    mutant(
        "The key of a process that died stays taken",
        "7",
        f"{CONTRACT}::test_the_other_died[core]",
        (OWNER, "    if (results_of_owner(e, slot) < 0) return -1;\n", ""),
    ),
    mutant(
        "In a copy, what was in flight in the original stays so",
        "7",
        f"{ONCE}::test_a_copy",
        (OWNER, "results_void(e) < 0", "0"),
    ),
    mutant(
        "The key of a broker that was closed is kept from the others",
        "7",
        f"{ONCE}::test_closed_in_the_middle",
        (RECALL, "    if (code == EMBQ_CLOSED) code = stage", "    if (!code) stage"),
    ),
    mutant(
        "Who waits for a key is not woken when it is free",
        "7",
        f"{ONCE}::test_the_end_wakes",
        (RESULT, "    e->wake_bits |= wake_bit(key_hash(n->both));\n", ""),
        (
            RESULT,
            "key_offer(struct engine *e, const struct names *n) {\n",
            (
                "key_offer(struct engine *e, const struct names *n) {\n"
                "    if (!n) e->wake_bits = 0;\n"
            ),
        ),
    ),
    mutant(
        "A forked child ends what its parent began",
        "CASE 30",
        f"{ONCE}::test_a_fork_in_the_middle",
        (RESULT, "if (same && f.owner != e->slot)", "if (same && !f.owner)"),
    ),
    mutant(
        "A forked child frees what its parent is at",
        "CASE 30",
        f"{ONCE}::test_a_child_that_fails_frees_nothing",
        (RESULT, "if (!there || f.owner != e->slot || ", "if (!there || !f.owner || "),
    ),
    mutant(
        "A key is free only once Python has seen that it was begun",
        "CASE 35",
        f"{ONCE}::test_signals_at_any_moment",
        (
            PYTHON,
            "        try:\n            body = begun.begin(wait)\n",
            "        body = begun.begin(wait)\n        try:\n",
        ),
        tries=3,
    ),
    mutant(
        "A begin that was abandoned in its group takes the key with it",
        "CASE 35",
        f"{ONCE}::test_abandoned_in_its_group",
        (
            "csrc/ring.c",
            "return op->result == EMBQ_RESULT_BEGUN;",
            "return op->result < 0;",
        ),
    ),
    mutant(
        "What was set while a function ran is lost",
        "1",
        f"{CONTRACT}::test_set_takes_it[core]",
        (RESULT, STORED, ""),
    ),
    mutant(
        "Who lost its key writes its result all the same",
        "4",
        f"{CONTRACT}::test_another_began_meanwhile[core]",
        (
            RESULT,
            "int same = there && f.owner && f.token == op->token;",
            "int same = !there || f.owner;",
        ),
        (RESULT, "if (same && f.owner != e->slot)", "if (same && op->total)"),
    ),
    mutant(
        "A result whose time is over is found",
        "1",
        f"{CONTRACT}::test_ttl[core-10]",
        (
            STATEMENT,
            (
                '"where scope = ?1 and key = ?2 and expires_at_ms > ?3\\n"\n'
                '                      "  and owner is null"'
            ),
            (
                '"where scope = ?1 and key = ?2 and expires_at_ms > ?3 * 0\\n"\n'
                '                      "  and owner is null"'
            ),
        ),
    ),
    mutant(
        "What takes longer than its ttl is done twice",
        "7",
        f"{RESULTS}::test_what_takes_long_is_not_removed",
        (
            RESULT,
            "row_write(e, &n, none, EMBQ_TIME_MAX_MS,",
            "row_write(e, &n, none, clock_wall_ms() + 5000,",
        ),
        (STATEMENT, "expires_at_ms <= ?1 and owner is null", "expires_at_ms <= ?1"),
    ),
    mutant(
        "A result that is set is confirmed before it is synced",
        "1",
        SYNCED,
        (
            RESULT,
            (
                "    op->full = op->broker->full != 0;\n    return result_keep(e, &n, "
                "result, op->delay_ms, there"
            ),
            "    return result_keep(e, &n, result, op->delay_ms, there",
        ),
    ),
    mutant(
        "The result of a function is confirmed before it is synced",
        "1",
        SYNCED,
        (
            RESULT,
            (
                "    op->full = op->broker->full != 0;\n    return result_keep(e, &n, "
                "result, op->delay_ms, 0)"
            ),
            "    return result_keep(e, &n, result, op->delay_ms, 0)",
        ),
    ),
    mutant(
        "What is over is never removed",
        "7",
        f"{RESULTS}::test_what_is_over_is_removed",
        (KEEPER, "    results_look(e);\n", ""),
    ),
    mutant(
        "What is over is removed all at once",
        "7",
        f"{RESULTS}::test_what_is_over_is_removed",
        (RESULT, "#define FORGET_STEP 128", "#define FORGET_STEP 100000"),
    ),
    mutant(
        "What was removed is counted still",
        "8",
        f"{RESULTS}::test_what_is_over_is_removed",
        (
            RESULT,
            "scope_count(e, column_slice(s, 0), -1)",
            "scope_count(e, column_slice(s, 0), 0)",
        ),
    ),
    mutant(
        "A result that takes another's place is counted as one more",
        "8",
        f"{CONTRACT}::test_set_again[core]",
        (RESULT, "op->delay_ms, there && !f.owner)", "op->delay_ms, 0)"),
    ),
    mutant(
        "What was found is forgotten at the close",
        "8",
        f"{RESULTS}::test_hits_reach_the_file",
        ("csrc/engine.c", "        hits_stage(e, 1);\n", ""),
    ),
    mutant(
        "What was found is counted again each time that it is written",
        "8",
        f"{RESULTS}::test_hits_reach_the_file",
        (HITS, "if (committed) h->pending -= h->written;", "if (!committed) continue;"),
    ),
    mutant(
        "A file has any number of scopes",
        "8",
        f"{RESULTS}::test_scopes_have_a_limit",
        (RESULT, "NULL, 0) >= SCOPES_MAX", "NULL, 0) >= SCOPES_MAX * 2"),
    ),
    mutant(
        "What is begun goes into the reserve",
        "CASE 23",
        f"{RESULTS}::test_the_reserve",
        (
            RESULT,
            (
                "    int code = space_check(e, op);\n"
                "    if (code < 0 || (code = scope_make(e, n.scope)) < 0) "
                "return code;\n    op->token"
            ),
            (
                "    int code = scope_make(e, n.scope);\n"
                "    if (code < 0) return code;\n"
                "    op->token"
            ),
        ),
    ),
    mutant(
        "A result that does not fit the schema is handed out",
        "8",
        f"{CONTRACT}::test_schema[core]",
        (
            PYTHON,
            "            if self._form:\n",
            "            if self._form is self:\n",
        ),
    ),
    mutant(
        "The first caller gets what its function returned, the others what is stored",
        "8",
        f"{CONTRACT}::test_the_result_is_what_is_stored[core]",
        (
            PYTHON,
            (
                "        return self._read(self._run(broker, names, fn, wait) if body "
                "is None else body)"
            ),
            (
                "        return self._read(body) if body is not None else [\n"
                "            out := [], self._run(\n"
                "                broker, names, lambda: out.append(fn()) or out[0],\n"
                "                wait,\n"
                "            )\n"
                "        ][0][0]"
            ),
        ),
    ),
]
