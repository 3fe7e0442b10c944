SELECT * INTO old_patients FROM patients; -- want data-without-role copy-of-rows
