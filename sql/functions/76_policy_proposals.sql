-- The second pair of eyes: a policy that one API key proposes becomes the active one when another key approves it. Both functions stand behind the
-- lock of activate_policy, so that whatever comes at once comes one after the other.

-- Proposes a policy in place of the one that is active now. Returns
--   proposed  now
--   known     it is proposed already, in place of the same one, by whichever key: nothing changed
--   active    it is the active policy: nothing changed
create or replace function propose_policy(p_version text, p_body text, p_author text) returns text language plpgsql as $$
declare
    a policy_activations;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    perform pg_advisory_xact_lock(hashtext('policies'), 0);
    if exists (select from policies where active and version = p_version) then
        return 'active';
    end if;
    select * into a from policy_activations order by position desc limit 1;
    if exists (
        select from policy_proposals p
        where p.version = p_version and p.activation is not distinct from a.position
            and not exists (select from policy_verdicts v where v.proposal = p.position)
    ) then
        return 'known';
    end if;
    insert into policy_proposals (version, body, author, activation) values (p_version, p_body, p_author, a.position);
    return 'proposed';
end
$$;

-- Approves or refuses the last proposal of a version; approved, it is the active policy, in the same transaction. Returns
--   done       now
--   already    it was, by the same key: nothing changed
--   own        it was to be approved by the key that has proposed it: nothing changed
--   overtaken  another policy was made the active one since it was proposed: nothing changed
--   closed     it was approved or refused before, otherwise or by another key: nothing changed
--   unknown    there is no such proposal
create or replace function judge_policy_proposal(p_version text, p_verdict text, p_author text) returns text language plpgsql as $$
declare
    p policy_proposals;
    v policy_verdicts;
    outcome text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    perform pg_advisory_xact_lock(hashtext('policies'), 0);
    select * into p from policy_proposals where version = p_version order by position desc limit 1;
    select * into v from policy_verdicts where proposal = p.position;
    outcome := case
        when p.position is null then 'unknown'
        when v.verdict = p_verdict and v.author = p_author then 'already'
        when v.verdict is not null then 'closed'
        when p.activation is distinct from (select max(position) from policy_activations) then 'overtaken'
        when p_verdict = 'approved' and p.author = p_author then 'own'
        else 'done'
    end;
    if outcome = 'done' then
        insert into policy_verdicts (proposal, proposer, verdict, author) values (p.position, p.author, p_verdict, p_author);
        if p_verdict = 'approved' then
            perform activate_policy(p.version, p.body, p.author, 'activated', null);
        end if;
    end if;
    return outcome;
end
$$;
