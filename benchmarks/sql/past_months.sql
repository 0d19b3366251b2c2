-- As many months before the oldest partition as a trail of that age has, empty.
do $months$
declare
    bound timestamptz := (select min(lower_bound) from audit.leaves());
    past constant regclass := (select leaf from audit.leaves() where lower_bound is null and not is_default);
    leaf regclass;
    month timestamptz;
begin
    -- What takes events of before makes room, and is behind them again.
    execute format('alter table audit.logged_actions detach partition %s', past);
    execute format('drop table %s', past);
    for number in 1..{months} loop
        month := date_trunc('month', bound - interval '1 day', 'UTC');
        leaf := audit.make_leaf('logged_actions_' || to_char(month at time zone 'UTC', 'YYYY_MM'));
        execute format('alter table audit.logged_actions attach partition %s for values from (%L) to (%L)', leaf, month, bound);
        bound := month;
    end loop;
    perform audit.ensure_past();
end
$months$
