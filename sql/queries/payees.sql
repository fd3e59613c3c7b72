-- name: count_payees
-- Counts the next settled payments for their payees (functions/65_payees.sql).
select counted, behind_s from count_payees(%s)
