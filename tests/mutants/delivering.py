"""Planted bugs of delivering: leases, receipts, retries, suspects, dead letters, order.

Promises 2, 4, 5 and 6.
"""

from __future__ import annotations

from mutant import mutant

CLAIM, SETTLE, DELIVERY = "csrc/claim.c", "csrc/settle.c", "csrc/delivery.c"
FRESH = "csrc/fresh.c"
CONSUMER, RUN, MESSAGE = "csrc/consumer.c", "csrc/run.c", "csrc/message.c"
SETTLING, SUSPECTS = "contract/test_settling.py", "contract/test_suspects.py"
DEAD, GIVE_BACK = "contract/test_dead_letters.py", "contract/test_give_back.py"
RETRY = "contract/test_retry.py"
CLOCK = "int64_t clock_boot_ms(void) {\n    return boot_ms();"

MUTANTS = [
    mutant(
        "Every death is counted as the first hop",
        "5",
        f"{DEAD}::test_hops_count_the_deaths[core]",
        (
            "csrc/statement.c",
            "json_array_length(past) + 1)) end,",
            "1)) end,",
        ),
    ),
    mutant(
        "A history that is JSON's null takes no entry",
        "CASE 6",
        "test_fuzz.py::test_a_history_that_is_no_list_takes_an_entry[null]",
        (
            "csrc/statement.c",
            "case json_type(history) when 'array' then history end end, '[]')",
            "history end, '[]')",
        ),
    ),
    mutant(
        "The cursor skips a message after a batch",
        "2",
        f"{GIVE_BACK}::test_the_loop_ends_when_nothing_comes[core]",
        (
            FRESH,
            "b.looked ? b.seen : new_last(k);",
            "b.looked ? b.seen + (b.looked > 1) : new_last(k);",
        ),
    ),
    mutant(
        "The newest message goes first",
        "6",
        f"{SETTLING}::test_auto_ack[core]",
        (
            "csrc/statement.c",
            """"where id > ?1 and id <= ?2\\n"
                         "order by id\\n\"""",
            """"where id > ?1 and id <= ?2\\n"
                         "order by id desc\\n\"""",
        ),
    ),
    mutant(
        "auto_ack leaves the message in the file",
        "2",
        f"{SETTLING}::test_auto_ack[core]",
        (
            FRESH,
            " ? batch_delete(k, &b) : batch_hold(k, &b);",
            " ? ((void)batch_delete, batch_hold(k, &b)) : batch_hold(k, &b);",
        ),
    ),
    mutant(
        "auto_ack hands out before the removal is committed",
        "2",
        "test_confirming.py::test_a_failed_commit_confirms_nothing[receive auto_ack]",
        (
            "csrc/lead.c",
            "    op_outcome(op, result);\n    return 0;\n",
            """\
    op_outcome(op, result);
    if (op->flags & EMBQ_CLAIM_AUTO_ACK && result > 0) {
        pthread_mutex_lock(&e->mutex);
        ring_finish(e, op);
        ring_unlock(e);
    }
    return 0;
""",
        ),
    ),
    mutant(
        "A loop with auto_ack removes more than the prefetch",
        "2",
        f"{SETTLING}::test_at_most_the_prefetch_is_removed_ahead[core]",
        (
            CONSUMER,
            "    return c->flags || c->prefetch < 2 ? c->prefetch : c->prefetch / 2;",
            "    return c->flags ? c->prefetch * 2 : (c->prefetch + 1) / 2;",
        ),
    ),
    mutant(
        "A nacked message between acked ones is deleted",
        "2",
        "test_files.py::test_what_is_done_with_has_no_row",
        (
            RUN,
            "while (i < count && state_at(r->states, i) == MEMBER_ACKED) {",
            "while (i < count && state_at(r->states, i) != MEMBER_HELD) {",
        ),
    ),
    mutant(
        "A claim whose time was over in its group keeps what it took",
        "2",
        "test_waiting.py::test_waits_that_end_lose_nothing[lease-noisy]",
        (
            "csrc/ring.c",
            "    if (op->abandoned && has_taken(op)) claim_return(e, op);",
            "    if (op->abandoned && op->result < 0) claim_return(e, op);",
        ),
        tries=3,
    ),
    mutant(
        "The token of a receipt is not looked at",
        "4, CASE 48",
        "test_threads.py::test_a_forged_receipt[8]",
        (RUN, "    return x ? (int64_t)x : 1;", "    return x ? 1 : 1;"),
        (
            SETTLE,
            "        token_of_member(run->token, r->message) == r->token &&\n",
            "",
        ),
    ),
    mutant(
        "A receipt is good for a later delivery",
        "4, CASE 47",
        f"{SETTLING}::test_another_consumer_is_not_disturbed[core-ack]",
        (
            SETTLE,
            "return found > 0 ? r->token != 0 && d->token == r->token : found;",
            "return found;",
        ),
    ),
    mutant(
        "A receipt of another queue settles there",
        "4, CASE 48",
        "test_threads.py::test_a_receipt_of_another_queue",
        (
            SETTLE,
            "        if (message_channel(r.message) != c->id) {",
            "        if (0) {",
        ),
        (SETTLE, "    if (run && run->channel == c &&\n", "    if (run &&\n"),
    ),
    mutant(
        "A copy honours receipts of its original",
        "4, CASE 14",
        "test_replaced.py::test_a_copy_honours_no_old_receipt",
        (
            "csrc/lease.c",
            "    return statement_do(e, ST_DELIVERY_FORGET, 0, 0, NULL);",
            "    return 0;",
        ),
    ),
    mutant(
        "An ack after the lease's end is refused, though nobody claimed again",
        "2, CASE 46",
        f"{SETTLING}::test_an_ended_lease_may_still_be_settled[core-True-ack]",
        (
            SETTLE,
            "return found > 0 ? r->token != 0 && d->token == r->token : found;",
            "return found > 0 ? d->owner && d->token == r->token : found;",
        ),
    ),
    mutant(
        "extend() leaves the deadline where it was",
        "2",
        f"{SETTLING}::test_extend_holds_longer[core]",
        (
            SETTLE,
            "    d->deadline_ms = clock_boot_ms() + hold_ms;\n",
            "    (void)hold_ms;\n",
        ),
    ),
    mutant(
        "A prefetched message is handed out after its lease",
        "4, CASE 49",
        f"{GIVE_BACK}::test_an_over_lease_is_not_handed_out[core]",
        (
            CONSUMER,
            "(c->flags || clock_boot_ms() < c->deadline_ms);",
            "(c->flags || c->deadline_ms);",
        ),
    ),
    mutant(
        "A delivery is not counted when it is claimed again",
        "5, CASE 55",
        f"{DEAD}::test_exactly_max_receives[core]",
        (CLAIM, "    d.receive_count++;\n", ""),
    ),
    mutant(
        "A message dies one delivery too late",
        "5, CASE 55",
        f"{DEAD}::test_exactly_max_receives[core]",
        (
            DELIVERY,
            "d->receive_count >= c->options.max_receives;",
            "d->receive_count > c->options.max_receives;",
        ),
    ),
    mutant(
        "With max_receives=1 a whole batch is claimed",
        "5",
        f"{DEAD}::test_a_limit_of_one_is_claimed_alone[core]",
        (CLAIM, "    if (alone) k.limit = 1;", "    if (0) k.limit = 1;"),
    ),
    mutant(
        "A dead letter stays in its queue as well",
        "2",
        "test_files.py::test_what_is_done_with_has_no_row",
        (
            MESSAGE,
            "done < 0 || messages_delete(e, c, id, id) < 0",
            "done < 0",
        ),
    ),
    mutant(
        "A dead letter is deleted and not written",
        "2",
        f"{DEAD}::test_reject_moves_at_once[core]",
        (
            MESSAGE,
            "    int done = statement_step(e, into);",
            "    int done = into ? 0 : -1;",
        ),
    ),
    mutant(
        "A dead letter gets another id",
        "2",
        f"{DEAD}::test_a_dead_letter_has_a_new_count_and_a_longer_history[core]",
        ("csrc/statement.c", "coalesce(public_id, ?8),", "?8,"),
    ),
    mutant(
        "What a live consumer gives back is counted",
        "5",
        "test_prefetch.py::test_given_back_out_of_order_is_not_counted",
        (SETTLE, "    d->receive_count--;\n", ""),
    ),
    mutant(
        "A death counts twice for each message that was held",
        "5, CASE 17",
        f"{SUSPECTS}::test_a_death_gives_back_at_once[core]",
        (
            RUN,
            "id, &d) < 0 || delivery_expire(",
            "id, &d) < 0 || ++d.receive_count < 0 || delivery_expire(",
        ),
    ),
    mutant(
        "What was held at a death is no suspect",
        "5, CASE 56",
        f"{SUSPECTS}::test_one_suspect_at_a_time_in_a_process[core]",
        (DELIVERY, "    d->kind = DELIVERY_SUSPECT;\n", ""),
    ),
    mutant(
        "Two suspects are in flight at once",
        "5",
        f"{SUSPECTS}::test_one_suspect_at_a_time_in_a_process[core]",
        (
            CLAIM,
            "    if (!s->token || k->now_ms >= s->deadline_ms) return 0;",
            "    if (!s->token || k->now_ms > 0) return 0;",
        ),
    ),
    mutant(
        "A suspect is prefetched",
        "5",
        "test_prefetch.py::test_a_suspect_is_not_asked_for_ahead",
        (
            CONSUMER,
            "claim_new(c, batch_limit(c), CLAIM_NO_SUSPECT);",
            "claim_new(c, batch_limit(c), 0);",
        ),
    ),
    mutant(
        "What would be buried by a death is claimed ahead",
        "5, CASE 56",
        "test_poison.py::test_the_poison_and_only_the_poison[1-False-messages]",
        (
            CLAIM,
            "    if (alone && op->flags & CLAIM_NO_SUSPECT) return",
            "    if (0) return",
        ),
        (CLAIM, "    if (alone) op->suspect_due = 1;", ""),
        tries=3,
    ),
    mutant(
        "What a death would bury is handed out beside others",
        "5, CASE 56",
        f"{SUSPECTS}::test_the_last_try_comes_alone[core]",
        (
            CLAIM,
            "w->receive_count >= k->c->options.max_receives - 1;",
            "w->receive_count < 0;",
        ),
    ),
    mutant(
        "A claim sorts all that is due",
        "CASE 53",
        "test_at_once.py::test_many_delays_end_at_once",
        ("csrc/statement.c", '"order by 2, 1\\n"', '"order by 2 + 0, 1\\n"'),
    ),
    mutant(
        "All leases that ended end in one transaction",
        "7, CASE 54",
        "test_at_once.py::test_many_leases_end_at_once",
        (
            "csrc/bounds.h",
            "#define EMBQ_EXPIRE_STEP 1024",
            "#define EMBQ_EXPIRE_STEP 99999",
        ),
    ),
    mutant(
        "A dead letter does not tell the error of its last try",
        "5, CASE 55",
        "test_poison.py::test_what_always_fails[receive_many]",
        (SETTLE, '"max_receives", error);', '"max_receives", (struct slice){0});'),
    ),
    mutant(
        "A poison that always kills hides the innocent behind it",
        "5, CASE 56",
        f"{SUSPECTS}::test_the_least_received_suspect_goes_first[core]",
        (DELIVERY, "    d->due_at_ms = d->receive_count;\n", "    d->due_at_ms = 1;\n"),
    ),
    mutant(
        "Retries starve new messages",
        "6",
        f"{RETRY}::test_one_hand_out_in_eight_is_new[core]",
        (
            CLAIM,
            "    return available > 0 && k->c->retries_in_row",
            "    return available < 0 && k->c->retries_in_row",
        ),
    ),
    mutant(
        "Retries go by their place, not by their time",
        "6",
        f"{RETRY}::test_a_due_retry_goes_before_new_messages[core]",
        (
            "csrc/statement.c",
            '"order by 2, 1\\n"',
            '"order by 1\\n"',
        ),
    ),
    mutant(
        "A nack waits no longer the second time",
        "2",
        f"{RETRY}::test_nack_backs_off[core]",
        (
            SETTLE,
            "(double)(receive_count > 0 ? receive_count - 1 : 0));",
            "(double)(receive_count > 0 ? 0 : 1));",
        ),
    ),
    mutant(
        "Leases live by the wall clock",
        "2, CASE 50",
        "contract/test_clocks.py::test_a_wall_clock_jump_ends_no_lease[core-1]",
        ("csrc/clock.c", CLOCK, CLOCK.replace("return boot", "return wall")),
    ),
    mutant(
        "The deadline is part of the lease",
        "2",
        "contract/test_clocks.py::test_the_deadline_is_not_in_the_lease[core]",
        (
            "csrc/lease.c",
            "        if (next > now) break;",
            "        if (next >= now) break;",
        ),
    ),
]
