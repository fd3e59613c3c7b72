-- name: watch_policy
-- How the active policy's decisions have fallen lately, brought up to date if it is time.
select * from watch_policy(%s, %s, %s, %s)

-- name: policy_to_return_to
-- The policy to return to from an activation.
select version, body, author, added_at, active from policy_to_return_to(%s, %s)

-- name: policy_seen_outside
-- The shares were seen outside their band again.
select policy_seen_outside(%s)

-- name: cross_policy_band
-- Tells that the shares have left their band or are back in it, and makes an earlier policy the active one again if one is named.
select cross_policy_band(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
