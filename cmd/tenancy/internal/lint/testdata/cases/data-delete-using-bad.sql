DELETE FROM plans USING patients WHERE patients.id = plans.id; -- want data-without-role
