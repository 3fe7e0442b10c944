SET LOCAL row_security = off;
UPDATE patients SET email = lower(email); -- refused, not silent
