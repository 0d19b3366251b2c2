\set number random(1, {rows})
begin;
{context};
update orders set {update} where id = :number;
commit;
