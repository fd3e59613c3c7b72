-- name: shadow_begin
-- A policy that is not known yet begins to read; none of its rules has fired.
with begun as (
    insert into shadow_policies (version, body) values (%(version)s, %(body)s) on conflict (version) do nothing returning version
)
insert into shadow_rules (version, rule, place)
select begun.version, u.rule, u.place from begun, unnest(%(rules)s::text[]) with ordinality u (rule, place)

-- name: shadow_positions
-- How far policies have come. A position beyond all that ever happened in this cluster is of another one.
select version, read_to::text, read_to_payment::text, counted_from, settled_elsewhere(read_to)
from shadow_policies where version = any(%(versions)s) order by version

-- name: shadow_restart
-- The database was restored into another cluster: what it brought along was read there, and what comes from now on is read here.
update shadow_policies
set read_to = pg_snapshot_xmin(pg_current_snapshot()), read_to_payment = '00000000-0000-0000-0000-000000000000', counted_from = clock_timestamp()
where settled_elsewhere(read_to)

-- name: shadow_decisions
-- Settled payments beyond a place, in order (functions/62_settled.sql). A settle ends within a minute of its decision: what is older than the counting
-- was brought along by a restore.
select settled_by::text, payment_id::text, customer_id, payee_id, amount_minor, currency, decision::text, policy_version, answer
from settled_payments(%(read_to)s::xid8, %(read_to_payment)s::uuid, %(counted_from)s::timestamptz - interval '1 minute', %(decisions)s)

-- name: shadow_verdicts_add
-- Counts what some decisions came to.
insert into shadow_verdicts as known (version, policy_version, recorded, candidate, currency, decisions, unsure, amount_minor)
select %(version)s, u.*
from unnest(%(policy_versions)s::text[], %(recorded)s::decision[], %(candidates)s::decision[], %(currencies)s::text[],
    %(decisions)s::bigint[], %(unsure)s::bigint[], %(amounts_minor)s::numeric[]) u
on conflict (version, policy_version, recorded, candidate, currency) do update
set decisions = known.decisions + excluded.decisions, unsure = known.unsure + excluded.unsure, amount_minor = known.amount_minor + excluded.amount_minor

-- name: shadow_rules_add
-- Counts which rules were true and which could not be told.
update shadow_rules r set fired = r.fired + u.fired, unknown = r.unknown + u.unknown
from unnest(%(rules)s::text[], %(fired)s::bigint[], %(unknown)s::bigint[]) u (rule, fired, unknown)
where r.version = %(version)s and r.rule = u.rule

-- name: shadow_advance
-- A policy has read so many decisions more, if it is still where it was.
update shadow_policies
set read_to = %(read_to)s::xid8, read_to_payment = %(read_to_payment)s::uuid,
    decisions = decisions + %(decisions)s, unreadable = unreadable + %(unreadable)s
where version = %(version)s and read_to = %(read_before)s::xid8 and read_to_payment = %(read_before_payment)s::uuid
returning version

-- name: shadow_policies
-- Policies that read or ever read behind the active one, with how old the oldest decision is that each has not read; the newest first.
select s.version, s.counted_from, s.decisions, s.unreadable,
    settled_behind_s(s.read_to, s.read_to_payment, s.counted_from - interval '1 minute')
from shadow_policies s
where s.version = any(%(versions)s) or %(versions)s::text[] is null
order by s.counted_from desc, s.version

-- name: shadow_verdicts
-- What policies came to, by what was decided and by currency, over all policies that decided or over one.
select version, recorded::text, candidate::text, currency, sum(decisions)::bigint, sum(unsure)::bigint, sum(amount_minor)
from shadow_verdicts
where version = any(%(versions)s) and (policy_version = %(against)s or %(against)s::text is null)
group by version, recorded, candidate, currency

-- name: shadow_rules
-- What the rules of policies came to, in each policy's order.
select version, rule, fired, unknown from shadow_rules where version = any(%(versions)s) order by version, place
