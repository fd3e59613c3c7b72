-- Makes a policy the active one, known before or not, writes that down, and tells running services. Returns whether anything was changed.
-- `p_instead_of`: only if that version is still the active one (null: whichever is). One at a time; payments read policies without waiting for it.
create or replace function activate_policy(p_version text, p_body text, p_author text, p_cause text, p_instead_of text) returns boolean
    language plpgsql as $$
declare
    past text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform require_read_committed();
    end if;
    perform pg_advisory_xact_lock(hashtext('policies'), 0);
    select version into past from policies where active;
    if past is not distinct from p_version or p_cause = 'seeded' and past is not null or past <> p_instead_of then
        return false;
    end if;
    update policies set active = false where active;
    insert into policies (version, body, author, active) values (p_version, p_body, p_author, true)
        on conflict (version) do update set active = true;
    insert into policy_activations (version, cause, author) values (p_version, p_cause, p_author);
    perform pg_notify('paynow_policy', p_version);
    return true;
end
$$;
