-- What a customer usually pays in a currency: a mean of the allowed amounts and their variance, in which what is long past counts less and less. They
-- are kept as two numbers and changed by each amount, so that no amount has to be read again. Of the first 30 amounts they are the plain mean and the
-- plain variance (of all of them, not of a sample); from then on each new amount weighs a thirtieth, and what was there before 29 of them.
-- `p_count` is how many amounts are in them already.

-- What the next amount weighs.
create or replace function usual_share(p_count int) returns double precision
    language sql immutable as $$
    select 1::double precision / least(p_count + 1, 30)
$$;

-- A variance that amounts in whole minor units can have. One that came to nothing by many like amounts has to stop before it is too small for a
-- number, which PostgreSQL takes for an error.
create or replace function usual_spread(p_variance double precision) returns double precision
    language sql immutable as $$
    select case when p_variance < 0.001 then 0 else p_variance end
$$;

create or replace function usual_mean(p_count int, p_mean double precision, p_amount bigint) returns double precision
    language sql immutable as $$
    select p_mean + usual_share(p_count) * (p_amount - p_mean)
$$;

create or replace function usual_variance(p_count int, p_mean double precision, p_variance double precision, p_amount bigint) returns double precision
    language sql immutable as $$
    select usual_spread((1 - usual_share(p_count)) * (p_variance + usual_share(p_count) * (p_amount - p_mean) * (p_amount - p_mean)))
$$;
