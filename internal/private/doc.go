// Package private reads and writes the unexported fields of database/sql and GORM that the plugin needs and that have no method.
// No other package does so.
//
//   - [PoolOfTx], [PoolOfConn]: which pool a transaction or a connection comes from. The plugin refuses those of other pools.
//   - [FieldsOf]: the connector of a pool, to make the pool itself the guarded one; and its limits, to keep two pools alike.
//   - [CacheStore]: GORM's prepared statements, which must not go on running on the pool below the guard.
//   - [CallbacksOf]: GORM's callbacks in their order, to see whether another plugin has a part in a statement.
//
// Checked with Go 1.25, 1.26 and 1.27 and with GORM 1.31.2. Of pgx no unexported field is used.
//
// Each function compares the name and the type of a field before it uses it, and says so if they are others. The plugin then does
// without: it refuses transactions whose pool it does not know, borrows connections from a pool instead of taking it over, and
// leaves GORM's default transactions as they are. The tests of this package fail then, and name the field.
package private
