CREATE TABLE archived (LIKE patients INCLUDING ALL); -- want table-not-isolated
