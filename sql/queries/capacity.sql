-- name: connections_given
-- How many connections this role may have in this database at most; those that PostgreSQL reserves for others are left out.
select least(
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
  (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
)

-- name: other_end
-- Who answers: its process, the database and since when the server runs (no two of a server's are the same), and the time limit of a statement.
select pg_backend_pid(), current_database() || ' ' || pg_postmaster_start_time(),
  (select setting::int from pg_settings where name = 'statement_timeout')
