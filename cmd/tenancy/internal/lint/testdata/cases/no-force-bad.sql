ALTER TABLE billing.invoices NO FORCE ROW LEVEL SECURITY; -- want isolation-switched-off
