-- name: add_key
-- Keeps a new API key's hash.
insert into api_keys (key_id, name, secret_sha256, scopes, rate_per_s, rate_burst, expires_at) values (%s, %s, %s, %s, %s, %s, %s)

-- name: key
-- One API key by its id.
select key_id, name, secret_sha256, scopes, rate_per_s, rate_burst, created_at, expires_at, revoked_at, last_used_at from api_keys where key_id = %s

-- name: keys
-- All API keys, oldest first.
select key_id, name, secret_sha256, scopes, rate_per_s, rate_burst, created_at, expires_at, revoked_at, last_used_at from api_keys order by created_at, key_id

-- name: revoke_key
-- Ends an API key; a second time changes nothing.
update api_keys set revoked_at = coalesce(revoked_at, now()) where key_id = %s returning revoked_at

-- name: keys_used
-- Notes when keys were last used, some at a time.
update api_keys k set last_used_at = greatest(k.last_used_at, u.at) from unnest(%s::text[], %s::timestamptz[]) u (key_id, at) where k.key_id = u.key_id

-- name: active_policy
-- The policy that new payments are decided under.
select version, body, author, added_at, active from policies where active

-- name: policy
-- One policy ever active, by its version.
select version, body, author, added_at, active from policies where version = %s

-- name: policies
-- All policies ever active, newest first.
select version, body, author, added_at, active from policies order by added_at desc, version

-- name: active_policy_version
-- Which policy new payments are decided under; without its text, since every process asks each second.
select version from policies where active

-- name: activate_policy
-- Makes a policy the active one, known before or not, and says whether that changed anything.
select activate_policy(%s, %s, %s, %s, %s)

-- name: policy_history
-- What was made the active policy when, what was proposed, and what became of that; newest first.
select version, cause, author, at from (
    (select version, cause, author, at from policy_activations order by position desc limit %(limit)s)
    union all
    (select version, 'proposed', author, at from policy_proposals order by position desc limit %(limit)s)
    union all
    (
        select p.version, v.verdict, v.author, v.at
        from (select * from policy_verdicts order by position desc limit %(limit)s) v
        join policy_proposals p on p.position = v.proposal
    )
) h order by at desc limit %(limit)s

-- name: policy_before
-- The policy that was the active one before today's.
select p.version, p.body, p.author, p.added_at, p.active
from policy_activations a
join policies p on p.version = a.version
where a.version <> (select version from policies where active)
order by a.position desc limit 1
