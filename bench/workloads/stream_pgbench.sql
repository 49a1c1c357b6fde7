-- The tables and the transaction of pgbench ("TPC-B (sort of)") at scale 20: three updates and an insertion each. :rows changes in all, so a
-- quarter as many transactions. In SQL and with a seed, so that it is the same every time; one session writes it.
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, 20) n;
INSERT INTO pgbench_tellers SELECT n, (n - 1) / 10 + 1, 0, '' FROM generate_series(1, 200) n;
INSERT INTO pgbench_accounts SELECT n, (n - 1) / 100000 + 1, 0, '' FROM generate_series(1, 2000000) n;
VACUUM ANALYZE pgbench_branches, pgbench_tellers, pgbench_accounts;

CREATE PUBLICATION bench FOR TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history;
SELECT pg_create_logical_replication_slot('template', 'pgoutput');

CREATE PROCEDURE load(transactions bigint) LANGUAGE plpgsql AS $$
DECLARE
    account int;
    teller int;
    branch int;
    change int;
    balance int;
BEGIN
    PERFORM setseed(0.5);
    FOR t IN 1 .. transactions LOOP
        account := 1 + floor(random() * 2000000);
        teller := 1 + floor(random() * 200);
        branch := 1 + floor(random() * 20);
        change := floor(random() * 10001) - 5000;
        UPDATE pgbench_accounts SET abalance = abalance + change WHERE aid = account;
        SELECT abalance INTO balance FROM pgbench_accounts WHERE aid = account;
        UPDATE pgbench_tellers SET tbalance = tbalance + change WHERE tid = teller;
        UPDATE pgbench_branches SET bbalance = bbalance + change WHERE bid = branch;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (teller, branch, account, change, clock_timestamp());
        COMMIT;
    END LOOP;
END $$;
CALL load(:rows / 4);
