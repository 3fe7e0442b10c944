package check

// The codes of all findings. Each is the name of its constant, in lower case and with a dash before each word.
const (
	// Models.
	ModelTableMissing     Code = "model-table-missing"
	ModelColumnMissing    Code = "model-column-missing"
	ModelKeyWithoutTenant Code = "model-key-without-tenant"

	// What tenants share, by its model, and what hangs on it.
	SharedTableWritable  Code = "shared-table-writable"
	OwnRowsNotIsolated   Code = "own-rows-not-isolated"
	SharedParentCascades Code = "shared-parent-cascades"
	ChildWithoutTenant   Code = "child-without-tenant" // a table that refers to a tenant table

	// What connections start with.
	SettingUnsafe Code = "setting-unsafe"

	// The application's role.
	RoleSuperuser     Code = "role-superuser"
	RoleBypassesRLS   Code = "role-bypasses-rls"
	RoleInheritsAdmin Code = "role-inherits-admin"
	RoleOwnsTables    Code = "role-owns-tables"

	// The roles that it can become.
	RoleBecomesSuperuser Code = "role-becomes-superuser"
	RoleBecomesAdmin     Code = "role-becomes-admin" // where clients of Bypass have a login of their own
	RoleBecomesBypassRLS Code = "role-becomes-bypass-rls"
	RoleBecomesOwner     Code = "role-becomes-owner"
	RoleCreatesRoles     Code = "role-creates-roles"
	RoleReplicates       Code = "role-replicates"
	RolePredefined       Code = "role-predefined" // PostgreSQL's own roles that read or write everything

	// Tenant tables.
	TableNotEnabled        Code = "table-not-enabled"
	TableNotForced         Code = "table-not-forced"
	TableWithoutPolicy     Code = "table-without-policy"
	PartitionExposed       Code = "partition-exposed"
	ParentExposes          Code = "parent-exposes"
	TenantColumnNullable   Code = "tenant-column-nullable"
	TenantColumnDefault    Code = "tenant-column-default"
	TenantColumnCollation  Code = "tenant-column-collation"
	TenantColumnType       Code = "tenant-column-type"
	TenantColumnNotIndexed Code = "tenant-column-not-indexed"
	ForeignTableAccessible Code = "foreign-table-accessible"

	// Keys.
	PrimaryKeyNatural       Code = "primary-key-natural"
	UniqueWithoutTenant     Code = "unique-without-tenant"
	ForeignKeyWithoutTenant Code = "foreign-key-without-tenant"
	ForeignKeyCascades      Code = "foreign-key-cascades"

	// Policies.
	PolicyAlwaysTrue       Code = "policy-always-true"
	PolicyCheckAlwaysTrue  Code = "policy-check-always-true"
	PolicyBesideOurs       Code = "policy-beside-ours"
	PolicyOrBypass         Code = "policy-or-bypass"
	PolicyVolatile         Code = "policy-volatile"
	PolicyCastsColumn      Code = "policy-casts-column"
	PolicyWrongSetting     Code = "policy-wrong-setting"
	PolicyWithoutNullif    Code = "policy-without-nullif"
	PolicyWithoutSubselect Code = "policy-without-subselect"
	PolicyNotCanonical     Code = "policy-not-canonical"

	// Shards, where Citus distributes tables.
	PolicyRestrictiveOpens Code = "policy-restrictive-opens"
	ShardNotEnabled        Code = "shard-not-enabled"
	ShardNotForced         Code = "shard-not-forced"
	ShardPoliciesDiffer    Code = "shard-policies-differ"

	// Views.
	MaterializedViewReadable Code = "materialized-view-readable"
	ViewOwnerBypasses        Code = "view-owner-bypasses"
	ViewNotInvoker           Code = "view-not-invoker"

	// Functions and triggers.
	FunctionDefinerReads     Code = "function-definer-reads"
	FunctionSearchPath       Code = "function-search-path"
	TriggerOwnerBypasses     Code = "trigger-owner-bypasses"
	RuleOwnerBypasses        Code = "rule-owner-bypasses"
	FunctionDefinerDynamic   Code = "function-definer-dynamic"
	FunctionLeakproof        Code = "function-leakproof"
	FunctionSetsTenant       Code = "function-sets-tenant"
	FunctionOpensConnections Code = "function-opens-connections"
	FunctionReadsFiles       Code = "function-reads-files"

	// Records of changes.
	AuditWritable         Code = "audit-writable"
	AuditFunctionExposed  Code = "audit-function-exposed"
	AuditFunctionReplaced Code = "audit-function-replaced"
	AuditTriggerMissing   Code = "audit-trigger-missing"
	AuditTriggerDisabled  Code = "audit-trigger-disabled"

	// Privileges.
	GrantTruncate       Code = "grant-truncate"
	GrantTrigger        Code = "grant-trigger"
	GrantReferences     Code = "grant-references"
	SequenceUpdatable   Code = "sequence-updatable"
	LargeObjectsShared  Code = "large-objects-shared"
	ParameterSettable   Code = "parameter-settable"
	ForeignServerUsable Code = "foreign-server-usable"
	GrantCreate         Code = "grant-create"
	DefaultPrivileges   Code = "default-privileges"
	CatalogReadable     Code = "catalog-readable"

	// What the login of an application that signs its tenants must not be able to do, and the keys.
	SignedFunctionsDiffer     Code = "signed-functions-differ"
	SignedKeysReachable       Code = "signed-keys-reachable"
	SignedRoleUnbound         Code = "signed-role-unbound"
	SignedRolePredefined      Code = "signed-role-predefined"
	SignedRoleExempt          Code = "signed-role-exempt"
	SignedOwns                Code = "signed-owns"
	SignedCreate              Code = "signed-create"
	SignedRightsWithoutPolicy Code = "signed-rights-without-policy"
	SignedTemporary           Code = "signed-temporary"
	SignedStatementsRecorded  Code = "signed-statements-recorded"
	SignedLargeObjects        Code = "signed-large-objects"
	SignedStatementsVisible   Code = "signed-statements-visible"
	SignedLargeObjectsCreated Code = "signed-large-objects-created"
	SignedNotDemanded         Code = "signed-not-demanded"
	SignedNotExpected         Code = "signed-not-expected"
	SignedKeyMissing          Code = "signed-key-missing"
	SignedKeysMany            Code = "signed-keys-many"

	// Publications.
	TablePublished Code = "table-published" // a publication sends tenant tables to other servers

	// Notes.
	OwnerBound       Code = "owner-bound"       // later migrations of the owner touch 0 rows
	BackupIncomplete Code = "backup-incomplete" // no role can dump the rows of all tenants
	TemporaryTables  Code = "temporary-tables"  // the application may make them

	// The server.
	ServerCVE20232455  Code = "server-cve-2023-2455"
	ServerCVE202410976 Code = "server-cve-2024-10976"
	ServerCVE20258713  Code = "server-cve-2025-8713"

	// The allow-list.
	AllowStale  Code = "allow-stale"  // an entry of the allow-list that matches nothing
	SharedTable Code = "shared-table" // for Allow only: the table has the tenant column and is shared by all tenants
)
