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

-- name: seed_policy
-- Makes a policy the active one if there is none yet.
insert into policies (version, body, author, active) values (%s, %s, %s, true) on conflict do nothing

-- name: activate_policy
-- Makes a policy the active one, known before or not.
with past as (update policies set active = false where active and version <> %(version)s returning 1), counted as (select count(*) from past)
insert into policies (version, body, author, active) select %(version)s, %(body)s, %(author)s, true from counted
on conflict (version) do update set active = true
