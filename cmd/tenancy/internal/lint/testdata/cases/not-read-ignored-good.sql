-- tenancy:ignore not-read psql only prints here
\echo done
SELECT 1;
