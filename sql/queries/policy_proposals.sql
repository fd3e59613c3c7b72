-- name: propose_policy
-- Proposes a policy in place of the active one.
select propose_policy(%s, %s, %s)

-- name: judge_policy_proposal
-- Approves or refuses the last proposal of a version; approved, it is the active policy from then on.
select judge_policy_proposal(%s, %s, %s)

-- name: policy_proposal
-- The last proposal of a version with its text, and what became of it.
select p.position, p.version, p.author, p.at,
    coalesce(v.verdict, case when p.activation is distinct from (select max(position) from policy_activations) then 'overtaken' else 'open' end),
    v.author, v.at, p.body
from policy_proposals p
left join policy_verdicts v on v.proposal = p.position
where p.version = %s
order by p.position desc limit 1

-- name: policy_proposals
-- What was proposed, newest first, without the texts.
select p.position, p.version, p.author, p.at,
    coalesce(v.verdict, case when p.activation is distinct from (select max(position) from policy_activations) then 'overtaken' else 'open' end),
    v.author, v.at, null
from policy_proposals p
left join policy_verdicts v on v.proposal = p.position
where p.position < greatest(least(%(before)s::numeric, 9223372036854775807), 0)::bigint
order by p.position desc limit %(limit)s
