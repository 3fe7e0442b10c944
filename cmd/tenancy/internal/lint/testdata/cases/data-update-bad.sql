UPDATE patients SET email = lower(email); -- want data-without-role
