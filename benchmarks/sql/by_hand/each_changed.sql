for changed in select * from orders loop
    {event};
end loop
