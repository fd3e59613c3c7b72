"""Policies that one key proposes and another approves: what the database holds, whoever asks it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing

import psycopg2
import psycopg2.errors
import pytest
from desk import POLICY, Desk, compiled

from database import execute
from paynow.errors import ConfigurationFault, ConfigurationRefused, InvalidRequest, NotFound, OwnProposal, ProposalClosed
from paynow.payments.policy_proposals import ProposePolicy
from paynow.policy import Policy
from paynow.store.policy_proposals import PolicyProposals
from waiting import meanwhile

NEW = compiled(f"{POLICY}\n# new\n")
OTHER = compiled(f"{POLICY}\n# other\n")


@pytest.fixture
def proposals(desk: Desk) -> PolicyProposals:
    return desk.store.policy_proposals


@pytest.fixture
def people(proposals: PolicyProposals) -> ProposePolicy:
    return ProposePolicy(proposals, compiled)


WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def active(dsn: str) -> str:
    return execute(dsn, "select version from policies where active")[0][0]


async def test_a_proposal_changes_nothing_until_another_key_approves_it(people: ProposePolicy, database: str) -> None:
    before = active(database)
    proposal = await people.propose(NEW.text, "anna")
    assert (proposal.version, proposal.status, proposal.author, proposal.judged_by) == (NEW.version, "open", "anna", None)
    assert active(database) == before
    assert execute(database, "select count(*) from policies") == [(1,)], "what nobody approved is no policy that one could roll back to"
    approved = await people.approve(NEW.version, "ben")
    assert (approved.status, approved.judged_by) == ("approved", "ben")
    assert active(database) == NEW.version
    assert execute(database, "select body from policies where active") == [(NEW.text,)]
    assert execute(database, "select cause, author from policy_activations order by position desc limit 1") == [("activated", "anna")]


async def test_the_same_key_cannot_approve(people: ProposePolicy, database: str) -> None:
    before = active(database)
    await people.propose(NEW.text, "anna")
    for _ in range(2):
        with pytest.raises(OwnProposal):
            await people.approve(NEW.version, "anna")
    assert active(database) == before
    assert (await people.approve(NEW.version, "ben")).status == "approved"


async def test_the_tables_themselves_refuse_an_approval_by_the_same_key(people: ProposePolicy, database: str) -> None:
    await people.propose(NEW.text, "anna")
    write = "insert into policy_verdicts (proposal, proposer, verdict, author) values (1, %s, 'approved', 'anna')"
    with pytest.raises(psycopg2.errors.CheckViolation):
        execute(database, write, "anna")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        execute(database, write, "carl")


async def test_of_many_who_approve_at_once_one_makes_it_the_active_one(people: ProposePolicy, proposals: PolicyProposals, database: str) -> None:
    await people.propose(NEW.text, "anna")
    with closing(psycopg2.connect(database)) as connection:
        connection.cursor().execute("select pg_advisory_xact_lock(hashtext('policies'), 0)")
        judging = asyncio.gather(*(proposals.judge(NEW.version, "approved", f"key-{number}") for number in range(8)))
        await meanwhile(lambda: execute(database, WAITING)[0][0] >= 4)
    came = await judging
    assert Counter(came) == {"done": 1, "closed": 7}
    assert execute(database, "select count(*) from policy_activations where cause = 'activated'") == [(1,)]


async def test_of_an_approval_and_a_refusal_at_once_one_counts(people: ProposePolicy, proposals: PolicyProposals, database: str) -> None:
    before = active(database)
    await people.propose(NEW.text, "anna")
    came = await asyncio.gather(proposals.judge(NEW.version, "approved", "ben"), proposals.judge(NEW.version, "refused", "carl"))
    assert sorted(came) == ["closed", "done"]
    assert active(database) == (NEW.version if came[0] == "done" else before)


async def test_a_repetition_by_the_same_key_gets_the_same_answer(people: ProposePolicy, database: str) -> None:
    first = await people.propose(NEW.text, "anna")
    assert await people.propose(NEW.text, "anna") == first
    assert await people.propose(NEW.text, "carl") == first, "it is proposed already, and by whom"
    approved = await people.approve(NEW.version, "ben")
    assert await people.approve(NEW.version, "ben") == approved
    with pytest.raises(ProposalClosed, match="approved by the key ben"):
        await people.approve(NEW.version, "carl")
    with pytest.raises(ProposalClosed, match="approved by the key ben"):
        await people.refuse(NEW.version, "ben")
    assert execute(database, "select count(*) from policy_verdicts") == [(1,)]


async def test_what_was_refused_stays_so_and_may_be_proposed_again(people: ProposePolicy, database: str) -> None:
    await people.propose(NEW.text, "anna")
    assert (await people.refuse(NEW.version, "anna")).status == "refused", "who proposed it takes it back"
    with pytest.raises(ProposalClosed, match="refused by the key anna"):
        await people.approve(NEW.version, "ben")
    assert (await people.propose(NEW.text, "carl")).status == "open"
    await people.approve(NEW.version, "anna")
    assert active(database) == NEW.version


async def test_a_proposal_stands_in_place_of_the_policy_that_was_active_then(people: ProposePolicy, desk: Desk, database: str) -> None:
    await people.propose(NEW.text, "anna")
    await desk.store.administration.activate_policy(OTHER.version, OTHER.text, "somebody")
    for act in (people.approve, people.refuse):
        with pytest.raises(ProposalClosed, match="propose it again"):
            await act(NEW.version, "ben")
    assert active(database) == OTHER.version
    assert (await people.propose(NEW.text, "ben")).author == "ben"
    await people.approve(NEW.version, "anna")
    assert active(database) == NEW.version


async def test_a_policy_that_is_wrong_is_not_stored_and_the_active_one_neither(people: ProposePolicy, database: str) -> None:
    with pytest.raises(InvalidRequest):
        await people.propose("[[rule]]\nid = 'x'\n", "anna")
    failing = f'{POLICY}\n[[example]]\nname = "x"\nsignals.look.says = "allow"\npayment = {{ amount = "1.00", currency = "USD" }}\nexpect = "block"\n'
    with pytest.raises(InvalidRequest):
        await people.propose(failing, "anna")
    with pytest.raises(ProposalClosed, match="active one already"):
        await people.propose(POLICY, "anna")
    assert execute(database, "select count(*) from policy_proposals") == [(0,)]


async def test_a_policy_that_does_not_fit_any_more_is_not_approved(people: ProposePolicy, proposals: PolicyProposals, database: str) -> None:
    def refuse(text: str, origin: str) -> Policy:
        raise ConfigurationRefused([ConfigurationFault(origin, "", "does not fit")])

    before = active(database)
    await people.propose(NEW.text, "anna")
    with pytest.raises(ProposalClosed, match="does not fit"):
        await ProposePolicy(proposals, refuse).approve(NEW.version, "ben")
    assert active(database) == before


async def test_what_was_never_proposed_is_not_found(people: ProposePolicy) -> None:
    for act in (people.approve, people.refuse):
        with pytest.raises(NotFound):
            await act(NEW.version, "ben")


async def test_proposals_and_what_became_of_them_cannot_be_changed(people: ProposePolicy, database: str) -> None:
    await people.propose(NEW.text, "anna")
    await people.approve(NEW.version, "ben")
    for change in (
        *("update policy_proposals set author = 'x'", "delete from policy_proposals", "truncate policy_proposals cascade"),
        *("update policy_verdicts set author = 'x'", "delete from policy_verdicts", "truncate policy_verdicts"),
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            execute(database, change)
