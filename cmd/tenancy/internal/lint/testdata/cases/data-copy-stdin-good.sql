COPY plans (id, name) FROM stdin;
1	UPDATE patients SET email = 'no SQL';
2	it's; odd
\.
SELECT 1;
