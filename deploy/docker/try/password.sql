-- For compose.yaml: the password of try/password.
ALTER ROLE tributary PASSWORD 'not-a-secret';
