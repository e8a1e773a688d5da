package statements

const testSQL = "SELECT nonsense"
