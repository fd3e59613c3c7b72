-- What the audit needs beside its queries (queries/audit.sql).

-- A text as JSON, or null if it is none: the audit goes on to the next row instead of ending there.
create or replace function json_or_null(p_text text) returns jsonb language plpgsql immutable strict as $$
begin
    return p_text::jsonb;
exception when others then
    return null;
end
$$;
