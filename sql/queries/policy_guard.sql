-- name: watch_policy
-- How the active policy's decisions have fallen lately, brought up to date if it is time.
select * from watch_policy(%s, %s, %s, %s)

-- name: policy_before_activation
-- The policy that was the active one before an activation.
select p.version, p.body, p.author, p.added_at, p.active
from policy_activations a
join policies p on p.version = a.version
where a.position < %s
order by a.position desc limit 1

-- name: cross_policy_band
-- Tells that the shares have left their band or are back in it, and makes an earlier policy the active one again if one is named.
select cross_policy_band(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
