-- Cuts a table that is there into partitions, with all that is in it, on it and leads to it (docs/scaling.md). Services are stopped meanwhile: the rows
-- are written anew. Nothing is left of it in the database but its work; afterwards `paynow migrate` brings the functions back that it had to drop.
--
-- A unique index that does not hold what the table is cut by can be unique in each partition only, so it becomes a plain one; and PostgreSQL builds no
-- index concurrently on a table that is cut.
create function pg_temp.partition_table(p_table text, p_column text, p_method text, p_bounds text[]) returns void language plpgsql as $$
declare
    whole constant regclass := p_table;
    references_here text[] := array(
        select format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        from pg_constraint where confrelid = whole and contype = 'f' and conparentid = 0
    );
    indexes text[] := array(
        select case when p_column = any (columns) then definition else replace(definition, 'CREATE UNIQUE', 'CREATE') end
        from pg_index i
        cross join lateral pg_get_indexdef(indexrelid) definition
        cross join lateral (select array_agg(attname::text) as columns from pg_attribute where attrelid = i.indexrelid) c
        where indrelid = whole and not indisprimary
    );
    key constant text := (select pg_get_constraintdef(oid) from pg_constraint where conrelid = whole and contype = 'p');
    triggers text[] := array(select pg_get_triggerdef(oid) from pg_trigger where tgrelid = whole and not tgisinternal);
    options constant text := (select array_to_string(reloptions, ', ') from pg_class where oid = whole);
    statement text;
    n int := 0;
begin
    if exists (select from pg_constraint where conrelid = whole and contype = 'f') then
        raise exception '% refers to other tables: that would get lost', p_table;
    end if;
    for statement in
        select format('alter table %s drop constraint %I', conrelid::regclass, conname)
        from pg_constraint where confrelid = whole and contype = 'f' and conparentid = 0
        union all
        select format('drop function %s', oid::regprocedure) from pg_proc
        where whole = (select typrelid from pg_type t where t.oid = prorettype)
            or exists (select from unnest(proargtypes::oid[] || coalesce(proallargtypes, '{}')) a join pg_type t on t.oid = a where t.typrelid = whole)
        union all
        select format('alter index %s rename to %I', indexrelid::regclass, indexrelid::regclass || '_whole') from pg_index where indrelid = whole
    loop
        execute statement;
    end loop;
    execute format('alter table %I rename to %I', p_table, p_table || '_whole');

    execute format(
        'create table %I (like %s including defaults including constraints including comments) partition by %s (%I)', p_table, whole, p_method, p_column
    );
    execute format('alter table %I add %s', p_table, key);
    foreach statement in array p_bounds loop
        n := n + 1;
        execute format('create table %I partition of %I %s %s', p_table || '_' || n, p_table, statement, 'with (' || options || ')');
    end loop;
    foreach statement in array indexes || triggers loop
        execute statement;
    end loop;
    for statement in
        select format('%s on %I %s', split_part(t, ' ON ', 1), p_table || '_' || m, substr(t, strpos(t, 'FOR EACH')))
        from unnest(triggers) t, generate_series(1, n) m
    loop
        execute statement;
    end loop;
    execute format('insert into %I select * from %s', p_table, whole);
    execute format('drop table %s', whole);
    foreach statement in array references_here loop
        execute statement;
    end loop;
    delete from schema_functions;
end
$$;
